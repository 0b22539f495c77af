"""``ringrift status``, ``health`` and ``waiting``: where everything stands, and why it does not go on."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from ringrift_ops.cli import options as o
from ringrift_ops.cli.control import ConfigArgument
from ringrift_ops.cli.output import print_fields, print_json, print_table
from ringrift_ops.errors import ExitCode

if TYPE_CHECKING:
    from ringrift_ops.operations.status import Cell, ConfigStatus, Status

_CLEAR = "\x1b[H\x1b[2J"


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    app.command("status")(status)
    app.command("health")(health)
    app.command("waiting")(waiting)
    app.command("curriculum")(curriculum)
    app.command("metrics")(metrics)


def status(
    config: ConfigArgument = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again and again, until Ctrl-C.")] = False,
    as_json: o.AsJson = False,
) -> None:
    """Show where everything stands: every stage of every config, what holds it, the nets in force, this machine."""
    from ringrift_ops.home import Home
    from ringrift_ops.ledger import Ledger
    from ringrift_ops.operations.overview import overview
    from ringrift_ops.platform.facts import look
    from ringrift_ops.settings import OPERATIONS

    home = Home.find()
    while True:
        found = look(config)
        if watch and sys.stdout.isatty():
            print(_CLEAR, end="")
        if as_json:
            print_json(overview(home, Ledger.open(), found))
        elif config is not None:
            _show_one(found.configs[0])
            _show_incidents(found)
        else:
            _show_all(found)
        if not watch:
            return
        sys.stdout.flush()
        time.sleep(OPERATIONS.watch_seconds)


def _show_all(found: Status) -> None:
    from ringrift_ops.stages.specs import Stage

    head = ("config", "generation", *(stage.value for stage in Stage), "champion")
    print_table(
        head, [(one.config, _generation(one), *map(_mark, one.stages), _champion(one)) for one in found.configs]
    )
    print("\nwhy nothing runs:")
    reasons: dict[str, list[str]] = {}
    for one in found.configs:
        for words, stages in _held(one).items():
            whole = len(stages) == len(one.stages)
            reasons.setdefault(words, []).append(one.config if whole else f"{one.config} {'+'.join(stages)}")
    for words, where in reasons.items():
        print(f"  {'all configs' if len(where) == len(found.configs) > 1 else ', '.join(where)}: {words}")
    _show_incidents(found)
    for warning in found.warnings:
        print(f"\nwarning: {warning}")
    machine = found.machine
    print(
        f"\n{machine.name}: load {machine.load:.1f} on {machine.cores} cores, "
        f"{machine.memory_free / 1e9:.1f} of {machine.memory / 1e9:.1f} GB memory free, "
        f"{machine.disk_free / 1e9:.0f} of {machine.disk / 1e9:.0f} GB disk free, "
        f"{'a GPU' if machine.gpu else 'no GPU'}, {len(found.jobs)} jobs"
    )


def _show_incidents(found: Status) -> None:
    if found.incidents:
        print("\nincidents:")
    for one in found.incidents:
        since = one.opened_at.isoformat(timespec="seconds")
        print(f"  {one.id} L{one.level} {one.state} since {since}: {one.summary} (`ringrift incident show {one.id}`)")


def _held(one: ConfigStatus) -> dict[str, list[str]]:
    """Return the stages by what holds them; not those that only wait for the one before or are done."""
    from ringrift_ops.operations.idle import Why

    told: dict[str, list[str]] = {}
    for cell in one.stages:
        if cell.idle is not None and cell.idle.why not in (Why.EARLIER, Why.DONE, Why.SKIPPED):
            told.setdefault(f"{cell.idle.reason}; {cell.idle.change}", []).append(cell.stage.value)
    return told


def _generation(one: ConfigStatus) -> str:
    if one.generation_id is None:
        return "-"
    number = "" if one.generation is None else f"{one.generation} "
    return f"{number}{one.outcome or one.state}"


def _champion(one: ConfigStatus) -> str:
    return "-" if one.champion is None else f"{one.champion.sha[:12]} {_age(one.champion.age_seconds)}"


def _mark(cell: Cell) -> str:
    if cell.status == "completed":
        return "done"
    if cell.status == "running" and cell.progress is not None and cell.progress.total:
        return f"{100 * cell.progress.done / cell.progress.total:.0f} %"
    return "-" if cell.status == "idle" else cell.status


def _age(seconds: float) -> str:
    days, hours = int(seconds // 86400), int(seconds // 3600)
    return f"{days} d" if days else f"{hours} h" if hours else f"{int(seconds // 60)} min"


def _show_one(one: ConfigStatus) -> None:
    shown = {
        "config": one.config,
        "generation": _generation(one),
        "run": one.run_id,
        "reason": one.reason,
        "lease": one.lease,
        "waiting runs": one.waiting,
        "rows": f"{one.rows:,} passed parity, {one.new_rows:,} of them new",
        "last training": None if one.last_training is None else one.last_training.isoformat(timespec="seconds"),
    }
    if one.champion is not None:
        champion = one.champion
        shown["champion"] = f"{champion.sha}, {champion.kind} {_age(champion.age_seconds)} ago: {champion.reason}"
        shown["evidence"] = f"{champion.evidence} (gate {champion.gate_version or 'none'})"
        shown["waivers"] = ", ".join(f"{x['kind']} by {x['actor']}: {x['reason']}" for x in champion.waivers)
    print_fields(shown)
    print()
    print_table(
        ("stage", "state", "progress", "rate", "started", "ended", "error", "why it does not run", "what would help"),
        [
            (
                cell.stage.value,
                cell.status,
                "-" if cell.progress is None else f"{cell.progress.done:.0f}/{cell.progress.total or 0:.0f}",
                "-" if cell.progress is None or cell.progress.rate is None
                else f"{cell.progress.rate:.1f} {cell.progress.unit}/s",
                "-" if cell.started_at is None else cell.started_at.isoformat(timespec="seconds"),
                "-" if cell.ended_at is None else cell.ended_at.isoformat(timespec="seconds"),
                cell.error or "-",
                "-" if cell.idle is None else cell.idle.reason,
                "-" if cell.idle is None else cell.idle.change,
            )
            for cell in one.stages
        ],
    )  # fmt: skip


def health(as_json: o.AsJson = False) -> None:
    """Say whether all that should go on does, and why not; exit code 1 when something does not."""
    from ringrift_ops.operations.health import health as health_of
    from ringrift_ops.platform.facts import look

    found = health_of(look(None))
    if as_json:
        print_json(found)
    else:
        print("healthy" if found.is_healthy else "not healthy")
        for reason in found.reasons:
            print(f"  {reason}")
        print_fields({name: found.details[name] for name in ("active_count", "stalled_count", "waiting_count")})
    if not found.is_healthy:
        raise typer.Exit(ExitCode.GATE_SAID_NO)


def waiting(config: ConfigArgument = None, as_json: o.AsJson = False) -> None:
    """Show who waits for what since when, and conditions that nobody waits for."""
    from ringrift_ops.platform.facts import look

    found = look(config).waiting
    if as_json:
        print_json(found)
        return
    rows = []
    for one in found:
        for waiter in one.waiters:
            since, seen = (moment.isoformat(timespec="seconds") for moment in (waiter.since, waiter.seen_at))
            lost = "has stopped asking" if waiter.generation in one.silent else "-"
            rows.append((one.config, one.condition.value, one.words, waiter.run_id, since, seen, lost))
        if not one.waiters:
            rows.append((one.config, one.condition.value, one.words, "nobody", "-", "-", one.lost or "-"))
    print_table(("config", "condition", "until", "who", "since", "last asked", "attention"), rows)


def curriculum(as_json: o.AsJson = False) -> None:
    """Show how games and priority are shared among the configs, by who was promoted of late."""
    from ringrift_ops.platform.facts import watch
    from ringrift_ops.stages.curriculum import shares

    found = watch()
    rows = shares(found.ledger, found.settings)
    if as_json:
        print_json(rows)
        return
    columns = ("config", "weight", "priority", "promotions", "games of the next generation")
    print_table(
        columns,
        [(one.config, round(one.weight, 3), one.priority, one.promotions,
          "as the first, by no net" if one.games is None else f"{one.games}") for one in rows],
    )  # fmt: skip


def metrics() -> None:
    """Print the platform's figures in Prometheus' text format."""
    from ringrift_ops.platform.facts import metrics as text

    print(text(), end="")
