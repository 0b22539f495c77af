"""``ringrift start``, ``trigger``, ``reset``, ``recover``, ``lock``: the pipeline in an operator's hand."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ringrift_ops.cli import options as o
from ringrift_ops.cli.control import Reason, asker
from ringrift_ops.cli.output import print_fields, print_json, print_table
from ringrift_ops.cli.verified import show_verified

if TYPE_CHECKING:
    from ringrift_ops.operations.control import Started

Config = Annotated[str, typer.Argument(help="Config key, e.g. hex8_2p.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")]


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    app.command("start")(start)
    app.command("trigger")(trigger)
    app.command("reset")(reset)
    app.command("recover")(recover)
    app.command("evaluate")(evaluate)
    app.command("evaluation")(evaluation)
    app.command("lock")(lock)
    app.command("clear-training-state")(clear_training_state)


def start(config: Config, profile: o.Profile = None, reason: Reason = "", as_json: o.AsJson = False) -> None:
    """Start a generation of a config on the running platform; the same call while it is under way starts no other."""
    from ringrift_ops.operations.control import start as start_run
    from ringrift_ops.platform.facts import controls

    _show(start_run(controls(), asker(reason), config, profile), as_json=as_json)


def trigger(
    config: Config,
    stage: Annotated[str, typer.Argument(help="A stage, or a runbook's name for it.")],
    force: Annotated[
        bool, typer.Option("--force", help="Do it anew, without waiting for the cooldown; needs --reason.")
    ] = False,
    following: Annotated[bool, typer.Option("--following", help="And the stages after it.")] = False,
    profile: o.Profile = None,
    reason: Reason = "",
    as_json: o.AsJson = False,
) -> None:
    """Start a run limited to one stage; parity, gates and breakers are never passed over."""
    from ringrift_ops.operations.control import trigger as trigger_stage
    from ringrift_ops.platform.facts import controls

    started = trigger_stage(
        controls(), asker(reason), config, stage, force=force, following=following, profile=profile
    )  # fmt: skip
    _show(started, as_json=as_json)


def _show(started: Started, *, as_json: bool) -> None:
    if as_json:
        print_json(started)
    else:
        print(f"{'started' if started.new else 'under way already:'} {started.run_id}")


def reset(
    config: Annotated[str | None, typer.Argument(metavar="[CONFIG]", help="Config key; or give --all.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every config; asks first.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --all: do not ask.")] = False,
    reason: Reason = "",
    as_json: o.AsJson = False,
) -> None:
    """End what is under way of a config and clear its failed state, lease and breakers; every artifact stays."""
    from ringrift_ops.operations.control import reset as reset_config
    from ringrift_ops.platform.facts import controls
    from ringrift_ops.settings import CONFIGS

    if (config is None) == (not everything):
        raise o.OptionConflictError("reset what? Give one config, or --all")
    by = asker(reason)
    by.needs_reason(f"resetting {config or 'all configs'}")
    if everything and not yes:
        if not sys.stdin.isatty():
            raise o.OptionConflictError("--all ends what is under way of every config: say --yes where nobody can ask")
        typer.confirm(f"End what is under way of all {len(CONFIGS)} configs and clear their state?", abort=True)
    found = [reset_config(controls(), by, key) for key in ([config] if config is not None else CONFIGS)]
    if as_json:
        print_json(found)
        for one in found:
            show_verified("reset", one.config, to_stderr=True)
        return
    columns = ("config", "runs ended", "jobs ended", "lease of", "generations", "stages cleared", "breakers")
    rows = [(x.config, *(", ".join(map(str, y)) for y in (x.runs, x.jobs)), x.lease,
             ", ".join(map(str, x.generations)), x.stages, ", ".join(x.breakers)) for x in found]  # fmt: skip
    print_table(columns, rows)
    for one in found:
        show_verified("reset", one.config)


def recover(
    config: Config,
    full: Annotated[
        bool,
        typer.Option(
            "--full", help="Stop training, clear its state, verify the data, restart, monitor; needs --reason."
        ),
    ] = False,
    dry_run: DryRun = False,
    reason: Reason = "",
    as_json: o.AsJson = False,
) -> None:
    """Let the stuck tasks of a config's run be done again: what exists is taken up, jobs that run are adopted."""
    from ringrift_ops.operations.control import recover as recover_run
    from ringrift_ops.operations.training_state import full_recovery
    from ringrift_ops.platform.facts import controls

    if full:
        steps = full_recovery(controls(), asker(reason), config, dry_run=dry_run)
        if as_json:
            print_json(steps)
        else:
            columns = ("step", "what", "found", "done")
            print_table(columns, [(f"{n}", one.name, one.found, one.done) for n, one in enumerate(steps, 1)])
        if not dry_run:
            show_verified("full recovery", config, to_stderr=as_json)
        return
    found = recover_run(controls(), asker(reason), config, dry_run=dry_run)
    if as_json:
        print_json(found)
    else:
        print_fields(vars(found))
    if found.done:
        show_verified("recover", found.config, to_stderr=as_json)


def lock(
    config: Annotated[
        str | None, typer.Argument(metavar="[CONFIG]", help="Config key; every held lock unless given.")
    ] = None,
    release: Annotated[bool, typer.Option("--release", help="Release it; one in use only with --reason.")] = False,
    reason: Reason = "",
    as_json: o.AsJson = False,
) -> None:
    """Show who holds the training lock and what uses it, or release it."""
    from ringrift_ops.operations import locks
    from ringrift_ops.platform.facts import controls

    found = controls()
    if release:
        if config is None:
            raise o.OptionConflictError("--release needs the config whose lock it is; `ringrift lock` lists them")
        freed = locks.release(found.home, found.ledger, asker(reason), config, airflow=found.airflow)
        if as_json:
            print_json(freed)
        else:
            print(f"nobody holds the lock of {config}" if freed is None else f"released, it was held by {freed.holder}")
        if freed is not None:
            show_verified("release lock", freed.config, to_stderr=as_json)
        return
    held = locks.locks(found.home, found.ledger, config, airflow=found.airflow)
    if as_json:
        print_json(held)
        return
    rows = [(x.config, x.holder, *(t.isoformat(timespec="seconds") for t in (x.since, x.until)), x.in_use or
             "nothing alive: may be released") for x in held]  # fmt: skip
    print_table(("config", "held by", "since", "until", "in use by"), rows)


def clear_training_state(config: Config, reason: Reason = "", as_json: o.AsJson = False) -> None:
    """Release the training lock of a config and forget its failed training."""
    from ringrift_ops.operations.training_state import clear_training_state as clear
    from ringrift_ops.platform.facts import controls

    cleared = clear(controls(), asker(reason), config)
    if as_json:
        print_json(cleared)
    else:
        print(f"cleared: {', '.join(cleared)}" if cleared else f"there was nothing to clear for {config}")
    if cleared:
        show_verified("clear training state", config, to_stderr=as_json)


def evaluate(
    config: Config,
    model: Annotated[str, typer.Option("--model", help="The net: a file or a sha256.")],
    priority: Annotated[str, typer.Option("--priority", help="normal, or high: before all runs that wait.")] = "normal",
    reason: Reason = "",
    as_json: o.AsJson = False,
) -> None:
    """Start a run on the platform that plays a net's gauntlet and promotes it on a PASS."""
    from ringrift_ops.operations.evaluations import queue_evaluation
    from ringrift_ops.operations.promotions import net_of
    from ringrift_ops.platform.facts import controls

    found = controls()
    net = net_of(found.home, found.ledger, model)
    _show(queue_evaluation(found, asker(reason), config, net, priority), as_json=as_json)


def evaluation(config: Config, as_json: o.AsJson = False) -> None:
    """Show how the last evaluation of a config went, and which nets wait for theirs."""
    from ringrift_ops.operations.evaluations import evaluation_status
    from ringrift_ops.platform.facts import controls

    found = evaluation_status(controls(), config)
    if as_json:
        print_json(found)
        return
    print_fields(found["last"] or {"last": "no net of this config was evaluated yet"})
    for run in found["queued"]:
        print(f"{run['state']}: {run['run_id']} judges {run['candidate'][:12]}")
