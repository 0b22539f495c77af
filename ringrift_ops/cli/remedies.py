"""``ringrift remedies``: what could be mended around trainings now, and mending it."""

from __future__ import annotations

from typing import Annotated

import typer

from ringrift_ops.cli import options as o
from ringrift_ops.cli.control import ConfigArgument
from ringrift_ops.cli.output import print_json, print_table


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("remedies")(remedies)


def remedies(
    config: ConfigArgument = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Mend what the profiles let be mended, within bounds.")
    ] = False,
    as_json: o.AsJson = False,
) -> None:
    """Show stale leases, silent jobs, wrong links and nets that did not arrive; with --apply mend them."""
    from ringrift_ops.operations.remedies import mend
    from ringrift_ops.platform.facts import controls

    reports = mend(controls(), config, act=apply)
    if as_json:
        print_json(reports)
        return
    if not reports:
        print("there is nothing to mend")
        return
    rows = [
        (one.kind, one.config, one.reason, f"{one.tries} of {one.bound}", one.state, one.action,
         "; ".join(f"{line.name}: {'yes' if line.ok else 'NO'} ({line.evidence})" for line in one.verified))
        for one in reports
    ]  # fmt: skip
    print_table(("remedy", "config", "why", "times", "state", "done", "verified"), rows)
