"""``ringrift db``, ``ringrift lineage`` and ``ringrift events``: the ledger, read and migrated."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from ringrift_ops.cli import options as o
from ringrift_ops.cli.output import print_json, print_table
from ringrift_ops.errors import UsageError

if TYPE_CHECKING:
    from ringrift_ops.ledger import Artifact, Poison, Relative

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class TimeSpanError(UsageError):
    """``--since`` is neither a span such as 90m nor a time."""


class UnknownEventTypeError(UsageError):
    """An event type that does not exist."""


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    group = typer.Typer(help="The ledger's tables.", no_args_is_help=True)
    group.callback()(_group)
    group.command("migrate")(migrate)
    app.add_typer(group, name="db")
    app.command("lineage")(lineage)
    app.command("events")(events)


def _group() -> None:
    """The ledger's tables."""


def migrate(
    url: Annotated[str | None, typer.Option("--url", help="SQLAlchemy URL; else the settings'.")] = None,
    as_json: o.AsJson = False,
) -> None:
    """Bring the ledger's tables to this version; repeating it changes nothing."""
    from ringrift_ops.ledger import Ledger

    ledger = Ledger.unchecked(url)
    before, now = ledger.migrate()
    if as_json:
        print_json({"ledger": ledger.place, "before": before, "now": now})
    elif before == now:
        print(f"{ledger.place} is at revision {now} already")
    else:
        print(f"{ledger.place}: {before or 'nothing'} -> {now}")


def lineage(
    sha: Annotated[str, typer.Argument(help="The sha256 of a net, dataset, report or batch, or its beginning.")],
    as_json: o.AsJson = False,
) -> None:
    """Show what an artifact was made from, down to its games, and what was made from it."""
    from ringrift_ops.ledger import Ledger

    ledger = Ledger.open()
    found = ledger.lineage(ledger.artifact_named(sha).sha)
    if as_json:
        print_json(found)
        return
    bad = ledger.poisoned([found.artifact.sha, *(one.artifact.sha for one in found.ancestors + found.descendants)])
    print(_artifact_line(found.artifact, bad))
    for title, relatives in (("made from", found.ancestors), ("led to", found.descendants)):
        print(f"\n{title}:" if relatives else f"\n{title}: nothing on record")
        for relative in relatives:
            print(_relative_line(relative, bad))


def _artifact_line(artifact: Artifact, bad: dict[str, Poison]) -> str:
    generation = "" if artifact.generation is None else f" of generation {artifact.generation}"
    what = f"{artifact.kind}{generation}, {artifact.config}"
    waived = "".join(
        f", WAIVED {one['kind']} ({one['actor']}: {one['reason']})" for one in artifact.meta.get("waivers", [])
    )
    poison = bad.get(artifact.sha)
    backed_out = "" if poison is None else f", BACKED OUT ({poison.actor}: {poison.reason})"
    return f"{artifact.sha[:12]}  {what}, {artifact.bytes:,} bytes, {artifact.path}{waived}{backed_out}"


def _relative_line(relative: Relative, bad: dict[str, Poison]) -> str:
    return f"{'  ' * relative.depth}{relative.role}  {_artifact_line(relative.artifact, bad)}"


def events(
    types: Annotated[
        list[str] | None, typer.Option("--type", help="E.g. MODEL_PROMOTED; may be given several times.")
    ] = None,
    since: Annotated[str | None, typer.Option("--since", help="E.g. 90m, 1h, 2d, or an ISO time.")] = None,
    config: o.Config = None,
    generation: Annotated[int | None, typer.Option("--generation", help="Ledger id.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="The newest so many.")] = 100,
    as_json: o.AsJson = False,
) -> None:
    """Show recorded events, oldest first."""
    from ringrift_ops.home import Home
    from ringrift_ops.ledger import EventType, Ledger
    from ringrift_ops.operations.logs import write_logs
    from ringrift_ops.settings import config_named

    for name in types or []:
        if name not in set(EventType):
            raise UnknownEventTypeError(f"unknown event type {name!r}; valid: {', '.join(EventType)}")
    ledger = Ledger.open()
    write_logs(Home.find(), ledger)
    found = ledger.events(
        types=types or (),
        config=None if config is None else config_named(config).key,
        generation=generation,
        since=None if since is None else moment(since, datetime.now(UTC)),
        limit=limit,
    )
    if as_json:
        print_json(found)
        return
    rows = [
        (
            one.at.isoformat(timespec="seconds"),
            one.type,
            one.config,
            one.generation if one.generation is not None else "-",
            ", ".join(f"{name}={value}" for name, value in one.payload.items()),
        )
        for one in found
    ]
    print_table(("at", "type", "config", "generation", "what"), rows)


def moment(text: str, now: datetime) -> datetime:
    """Return the time that ``--since`` means: so long before ``now``, or itself; raises :class:`TimeSpanError`."""
    span = re.fullmatch(r"(\d+)([smhd])", text)
    try:
        if span:
            return now - timedelta(**{_UNITS[span[2]]: int(span[1])})
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise TimeSpanError(f"--since {text}: a span such as 90m, 1h or 2d, or an ISO time is needed") from error
