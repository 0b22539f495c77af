"""``ringrift breakers`` and ``audit``: what holds the pipeline back, and who changed what."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ringrift_ops.cli import options as o
from ringrift_ops.cli.output import print_json, print_table
from ringrift_ops.cli.verified import show_verified

if TYPE_CHECKING:
    from ringrift_ops.operations.by import By

Reason = Annotated[str, typer.Option("--reason", help="Why; it is kept in the audit.")]
ConfigArgument = Annotated[
    str | None, typer.Argument(metavar="[CONFIG]", help="Config key, e.g. hex8_2p; all unless given.")
]


def asker(reason: str = "") -> By:
    """Return who asks at this terminal, and why."""
    from ringrift_ops.operations.by import By

    return By.here(reason, "cli")


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    group = typer.Typer(invoke_without_command=True, no_args_is_help=False)
    group.callback()(breakers)
    group.command("reset")(reset_breakers)
    app.add_typer(group, name="breakers")
    app.command("waivers")(waivers)
    app.command("audit")(audit)


def breakers(context: typer.Context, as_json: o.AsJson = False) -> None:
    """Show the circuit breakers: which action of which config failed how often, and when it is tried again."""
    if context.invoked_subcommand is not None:
        return
    from ringrift_ops.ledger import Ledger
    from ringrift_ops.operations.breakers import breaker_status

    found = breaker_status(Ledger.open())
    if as_json:
        print_json(found)
        return
    rows: list[tuple[Any, ...]] = []
    for action, one in found.items():
        rows += [
            (action, config, row["state"], row["failures"], row["since"], row["half_opens_at"], row["reason"])
            for config, row in one["configs"].items()
        ] or [(action, "all", "closed", 0, None, None, None)]
    print_table(("action", "config", "state", "failures", "open since", "half-opens at", "last error"), rows)


def reset_breakers(
    config: ConfigArgument = None,
    action: Annotated[
        str | None, typer.Argument(metavar="[ACTION]", help="A stage, or a runbook's name for it; all unless given.")
    ] = None,
    reason: Reason = "",
    as_json: o.AsJson = False,
) -> None:
    """Close breakers and forget their failures."""
    from ringrift_ops.ledger import Ledger
    from ringrift_ops.operations.breakers import reset

    changed = reset(Ledger.open(), asker(reason), action, config)
    if as_json:
        print_json(changed)
    else:
        names = ", ".join(f"{one.config}/{one.action} ({one.state}, {one.failures} failures)" for one in changed)
        print(f"reset: {names}" if changed else "no breaker was open and none had failures")
    for key in dict.fromkeys(one.config for one in changed):
        show_verified("reset breakers", key, to_stderr=as_json)


def waivers(as_json: o.AsJson = False) -> None:
    """Show the waivers in force: what is excepted, by whom, why, until when."""
    from ringrift_ops.ledger import Ledger

    found = Ledger.open().waivers()
    if as_json:
        print_json(found)
        return
    rows = [(x.kind, x.config, x.actor, x.reason, x.expires_at.isoformat(timespec="seconds")) for x in found]
    print_table(("waived", "config", "who", "why", "until"), rows)


def audit(
    config: ConfigArgument = None,
    since: Annotated[str | None, typer.Option("--since", help="E.g. 90m, 1h, 2d, or an ISO time.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="The newest so many.")] = 100,
    as_json: o.AsJson = False,
) -> None:
    """Show who changed what, and why, oldest first."""
    from ringrift_ops.cli.ledger import moment
    from ringrift_ops.ledger import Ledger
    from ringrift_ops.settings import config_named

    found = Ledger.open().audit(
        config=None if config is None else config_named(config).key,
        since=None if since is None else moment(since, datetime.now(UTC)),
        limit=limit,
    )
    if as_json:
        print_json(found)
        return
    rows = [
        (
            one.at.isoformat(timespec="seconds"), one.actor, one.door, one.action, one.config or "-", one.reason,
            ", ".join(f"{name}={value}" for name, value in one.detail.items()),
        )
        for one in found
    ]  # fmt: skip
    print_table(("at", "who", "door", "what", "config", "why", "detail"), rows)
