"""``ringrift diagnose`` and ``ringrift runbook``: why something failed, and the section about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ringrift_ops.cli import options as o
from ringrift_ops.cli.output import print_json

if TYPE_CHECKING:
    from ringrift_ops.operations.diagnosing import Finding

_LINES = 4
"""Lines of evidence per cause; all of them with --json."""


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    app.command("diagnose")(diagnose)
    app.command("runbook")(runbook)


def diagnose(
    config: Annotated[str | None, typer.Argument(metavar="[CONFIG]", help="Config key; or give --job.")] = None,
    stage: Annotated[str | None, typer.Option("--stage", help="Only this stage, or a runbook's name for it.")] = None,
    job: Annotated[str | None, typer.Option("--job", help="One job of this machine, of a generation or not.")] = None,
    as_json: o.AsJson = False,
) -> None:
    """Say why jobs failed or do not go on: each cause with its evidence, how sure it is, and the command that mends."""
    from ringrift_ops.home import Home
    from ringrift_ops.operations.diagnosing import findings, of_job

    if (config is None) == (job is None):
        raise o.OptionConflictError("diagnose what? Give one config, or --job ID")
    if job is not None:
        found = [of_job(Home.find(), job)]
    else:
        from ringrift_ops.ledger import Ledger
        from ringrift_ops.platform.facts import controls, look

        found = findings(Home.find(), Ledger.open(), look(config).configs[0], stage, controls().airflow)
    if as_json:
        print_json(found)
    else:
        _show(found, config or str(job))


def _show(found: list[Finding], what: str) -> None:
    if not any(one.causes for one in found):
        print(f"nothing is wrong with {what}")
    for one in found:
        where = f" on {one.host}" if one.host else ""
        print(f"{one.stage} of {one.config or '-'}: {f'job {one.job_id}{where}, ' if one.job_id else ''}{one.state}")
        for cause in one.causes:
            print(f"  {cause.cause} ({cause.confidence:.0%}): {cause.title}")
            for line in cause.evidence[:_LINES]:
                print(f"    | {line}")
            print(f"    fix: {cause.fix}")
            print(f"    page: {cause.page}")


def runbook(symptom: Annotated[str, typer.Argument(help="A cause, words of its title, or a line of a log.")]) -> None:
    """Show the sections about a symptom: what gives it away and what mends it."""
    from ringrift_ops.operations.diagnosing import opened

    print(opened(symptom), end="")
