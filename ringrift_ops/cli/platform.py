"""``ringrift run``, ``up`` and ``stop``: the same as ``make run`` and its like, with the exit code unchanged."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from ringrift_ops.cli import options as o


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    app.command("run")(run)
    app.command("up")(up)
    app.command("stop")(stop)


def run(
    config: Annotated[
        str | None, typer.Option("--config", envvar="CONFIG", help="Config key; hex8_2p unless given.")
    ] = None,
    profile: Annotated[str | None, typer.Option("--profile", envvar="PROFILE", help="tiny, quick or standard.")] = None,
    stay: Annotated[
        bool | None, typer.Option("--stay/--no-stay", help="Stay up afterwards; else as long as there is a terminal.")
    ] = None,
) -> None:
    """Start the platform, make one generation and show it (`make run`)."""
    from ringrift_ops.platform import commands

    chosen = {"CONFIG": config, "PROFILE": profile, "STAY": None if stay is None else str(int(stay))}
    os.environ.update({name: value for name, value in chosen.items() if value is not None})
    raise typer.Exit(int(commands.run()))


def up(profile: o.Profile = None) -> None:
    """Start the platform without triggering anything, until it is stopped (`make up`)."""
    from ringrift_ops.platform import commands

    if profile is not None:
        os.environ["PROFILE"] = profile
    raise typer.Exit(int(commands.up()))


def stop() -> None:
    """Stop a running platform of this home (`make stop`)."""
    from ringrift_ops.platform import commands

    raise typer.Exit(int(commands.stop()))
