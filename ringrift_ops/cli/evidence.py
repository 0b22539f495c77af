"""``ringrift evidence``: what there is to see about a config's jobs that failed or run (R26)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ringrift_ops.cli import options as o
from ringrift_ops.cli.output import print_fields, print_json, print_table

if TYPE_CHECKING:
    from ringrift_ops.hosts.evidence import MachineEvidence, Words
    from ringrift_ops.operations.evidence import Evidence


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("evidence")(evidence)


def evidence(
    config: Annotated[str, typer.Argument(help="Config key, e.g. hex8_2p.")],
    stage: Annotated[str | None, typer.Option("--stage", help="Only this stage, or a runbook's name for it.")] = None,
    as_json: o.AsJson = False,
) -> None:
    """Collect what is to be seen about the last jobs that failed or run: processes, GPU, memory, disk, dmesg, log."""
    from ringrift_ops.home import Home
    from ringrift_ops.ledger import Ledger
    from ringrift_ops.operations.evidence import collect
    from ringrift_ops.stages.hosting import Hosting

    found = collect(Hosting(Home.find(), Ledger.open()), config, stage)
    if as_json:
        print_json({"evidence": found})
        return
    for number, one in enumerate(found):
        if number:
            print()
        _show(one)


def _show(one: Evidence) -> None:
    shard = f" shard {one.shard}" if one.stage == "selfplay" else ""
    print(f"{one.job_id}: {one.stage.value}{shard} of generation {one.generation}, {one.state}, on {one.host}")
    if one.error is not None:
        print(f"failed with: {one.error}")
    if one.machine is None:
        print(f"nothing to be had from {one.host}: {one.unreachable}")
    else:
        _show_machine(one.machine)


def _show_machine(found: MachineEvidence) -> None:
    status = found.status
    gpus = [
        one.get("error")
        or f"{one['name']} {one['memory_used'] or 0:.0f} of {one['memory_total'] or 0:.0f} MiB, {one['utilization']} %"
        for one in found.gpus
    ]
    print_fields(
        {
            "job": f"{status.state.value}, attempt {status.attempt}" + (f", {status.reason}" if status.reason else ""),
            "last heartbeat": None if status.heartbeat_age is None else f"{status.heartbeat_age:.0f} s ago",
            "load": f"{found.load:.1f} on {found.cores} cores",
            "memory": f"{_gb(found.memory_free)} of {_gb(found.memory_total)} GB free",
            "swap": f"{_gb(found.swap_free)} GB free",
            "disk": f"{_gb(found.disk_free)} of {_gb(found.disk_total)} GB free",
            "gpu": ", ".join(str(one) for one in gpus) or found.nvidia_smi.error,
        }
    )
    if found.processes:
        columns = ("pid", "parent", "state", "cpu s", "age s", "MB", "command")
        rows = [
            (p.pid, p.parent, p.state, p.cpu_seconds, p.age_seconds, round(p.memory / 1e6), p.command[:100])
            for p in found.processes
        ]
        print_table(columns, rows)
    else:
        print("no process of it runs")
    _lines("dmesg", found.kernel)
    _lines("log", found.log)


def _lines(name: str, words: Words) -> None:
    print(f"{name}: {words.error or f'the last {len(words.lines)} lines'}")
    for line in words.lines:
        print(f"  {line}")


def _gb(size: int | None) -> str:
    return "-" if size is None else f"{size / 1e9:.1f}"
