"""``ringrift logs analyze``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from ringrift_ops.cli import options as o
from ringrift_ops.cli.output import print_fields, print_json, print_table

Moment = Annotated[str | None, typer.Option(help="E.g. 90m, 1h, 2d, or an ISO time.")]


GROUPED = ("known", "unknown")


def add_to(app: typer.Typer) -> None:
    """Register the group."""
    group = typer.Typer(help="The logs of the platform, its tasks and its jobs.", no_args_is_help=True)
    group.callback()(_group)
    group.command("analyze")(analyze)
    app.add_typer(group, name="logs")


def _group() -> None:
    """The logs of the platform, its tasks and its jobs."""


def analyze(
    since: Moment = None,
    until: Moment = None,
    level: Annotated[
        str, typer.Option("--level", help="Lines of this level and above: debug, info, warning, error, critical.")
    ] = "warning",
    as_json: o.AsJson = False,
) -> None:
    """Count known patterns in the logs of a time, and group the errors that match none."""
    from ringrift_ops.cli.ledger import moment
    from ringrift_ops.home import Home
    from ringrift_ops.operations.log_analysis import KNOWN
    from ringrift_ops.operations.log_analysis import analyze as look_through

    now = datetime.now(UTC)
    begin, end = (None if one is None else moment(one, now) for one in (since, until))
    found = look_through(Home.find(), begin, end, level)
    if as_json:
        groups = {name: [vars(x) | {"files": sorted(x.files)} for x in getattr(found, name)] for name in GROUPED}
        print_json(vars(found) | groups)
        return
    print_fields({"files": found.files, "lines": dict(found.lines)})
    print()
    print_table(
        ("pattern", "count", "last", "begin with", "example"),
        [(x.name, x.count, _stamp(x.last), KNOWN[x.name][1], x.example) for x in found.known],
    )
    print()
    print_table(("unknown error", "count", "last", "where"),
                [(x.name, x.count, _stamp(x.last), ", ".join(sorted(x.files)[:3])) for x in found.unknown])  # fmt: skip
    if found.not_grouped:
        print(f"\n{found.not_grouped} more lines of other kinds")


def _stamp(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="seconds")
