"""How a verification list is shown after a fix, and the command that runs one alone."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from ringrift_ops.cli import options as o
from ringrift_ops.cli.output import print_json, print_table
from ringrift_ops.errors import ExitCode

if TYPE_CHECKING:
    from ringrift_ops.stages.specs import Verified


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("verify")(verify)


def _fixes() -> list[str]:
    from ringrift_ops.operations.verification import LISTS

    return list(LISTS)


def verify(
    fix: Annotated[
        str, typer.Argument(help="What was fixed, e.g. rollback or 'out of memory'.", autocompletion=_fixes)
    ],
    config: Annotated[str, typer.Argument(help="Config key, e.g. hex8_2p.")],
    as_json: o.AsJson = False,
) -> None:
    """Run the verification list of a fix; exit code 1 when something does not hold."""
    found = verified(fix, config)
    if as_json:
        print_json(found)
    else:
        _table(found)
    if not all(one.ok for one in found):
        raise typer.Exit(ExitCode.GATE_SAID_NO)


def verified(fix: str, config: str) -> list[Verified]:
    """Return the verification list of a fix on this home."""
    from ringrift_ops.operations.verification import verify as run
    from ringrift_ops.platform.facts import controls

    return run(fix, controls(), config)


def show_verified(fix: str, config: str, *, to_stderr: bool = False) -> None:
    """Run a fix's list and show it: below its answer, or beside an answer that is JSON."""
    found = verified(fix, config)
    if to_stderr:
        for one in found:
            print(f"verified: {one.name}: {'yes' if one.ok else 'NO'}: {one.evidence}", file=sys.stderr)
        return
    print()
    _table(found)
    if not all(one.ok for one in found):
        print(f"\nnot all of it holds: `ringrift status {config}`; again with `ringrift verify '{fix}' {config}`")


def _table(found: Sequence[Verified]) -> None:
    print_table(("verified", "holds", "evidence"), [(one.name, one.ok, one.evidence) for one in found])
