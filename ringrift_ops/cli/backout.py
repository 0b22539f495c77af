"""``ringrift backout games`` and ``backout dataset``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ringrift_ops.cli import options as o
from ringrift_ops.cli.control import Reason, asker
from ringrift_ops.cli.verified import show_verified

if TYPE_CHECKING:
    from ringrift_ops.operations.backout import BackOutKind

Sha = Annotated[str, typer.Argument(help="Its sha256, or the beginning of it.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would go out of use.")]


def add_to(app: typer.Typer) -> None:
    """Register the group."""
    group = typer.Typer(help="Take what was found bad out of use, and all made from it.", no_args_is_help=True)
    group.command("games")(games)
    group.command("dataset")(dataset)
    app.add_typer(group, name="backout")


def games(sha: Sha, reason: Reason = "", dry_run: DryRun = False, as_json: o.AsJson = False) -> None:
    """Take a batch of games out of use, with every dataset, net and report that came of it."""
    _back_out("games", sha, reason, dry_run=dry_run, as_json=as_json)


def dataset(sha: Sha, reason: Reason = "", dry_run: DryRun = False, as_json: o.AsJson = False) -> None:
    """Take a dataset out of use, with every net and report that came of it."""
    _back_out("dataset", sha, reason, dry_run=dry_run, as_json=as_json)


def _back_out(kind: BackOutKind, sha: str, reason: str, *, dry_run: bool, as_json: bool) -> None:
    from ringrift_ops.cli.output import print_json, print_table
    from ringrift_ops.cli.promote import desk
    from ringrift_ops.operations.backout import back_out

    found = back_out(desk(), asker(reason), kind, sha, dry_run=dry_run)
    if as_json:
        print_json(found)
        if found.done:
            show_verified("back out", found.root.config, to_stderr=True)
        return
    rows = [(one.kind, one.sha[:12], one.generation, one.path) for one in (found.root, *found.made_from_it)]
    print_table(("kind", "sha256", "generation", "file"), rows)
    verb = "were taken" if found.done else "would be taken"
    print(f"\n{len(rows)} artifacts of {found.root.config} {verb} out of use; their files stay")
    if found.back_to is None:
        print("the net in force was not made from it and stays")
    else:
        print(f"canonical: {(found.canonical or 'none')[:12]} -> {found.back_to[:12]}")
    if found.done:
        show_verified("back out", found.root.config)
