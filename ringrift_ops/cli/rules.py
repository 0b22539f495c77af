"""``ringrift rules``."""

from __future__ import annotations

import typer


def add_to(app: typer.Typer) -> None:
    """Register the group."""
    group = typer.Typer(help="The rule engines.", no_args_is_help=True)
    group.callback()(_group)
    group.command("compile")(compile_rules)
    app.add_typer(group, name="rules")


def _group() -> None:
    """The rule engines."""


def compile_rules() -> None:
    """Compile the rules, the players and the search for all twelve configs, so that nobody waits for it later."""
    from ringrift_ops.rules.warm import compile_everything

    compile_everything()
