"""``ringrift distribute``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ringrift_ops.cli import options as o
from ringrift_ops.stages.specs import DistributeSpec, Stage


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("distribute")(distribute)


def distribute(
    context: typer.Context,
    model: Annotated[str, typer.Option("--model", help="A file, a sha256 or canonical.")] = "canonical",
    destinations: Annotated[
        list[Path] | None, typer.Option("--to", help="Folder; may be given several times; else the settings'.")
    ] = None,
    config: o.Config = None,
    board: o.Board = None,
    players: o.Players = None,
    profile: o.Profile = None,
    verbose: o.Verbose = False,
    as_json: o.AsJson = False,
    spec: o.SpecFile = None,
    result: o.ResultFile = None,
    heartbeat: o.HeartbeatPath = None,
) -> None:
    """Deliver a net to its destinations and verify every copy by hash."""
    from ringrift_ops.cli.running import run_stage

    def asked() -> DistributeSpec:
        return spec_of(o.config_of(config, board, players), model, destinations or [], profile=profile)

    run_stage(context, Stage.DISTRIBUTE, o.Doors(spec, result, heartbeat, as_json, verbose), asked)


def spec_of(key: str, model: str, destinations: list[Path], *, profile: str | None) -> DistributeSpec:
    """Return what the options ask for; raises ``NoSuchNetError`` and ``OptionConflictError``."""
    from ringrift_ops.cli.nets import net_named
    from ringrift_ops.settings import Settings
    from ringrift_ops.stages.order import Order

    settings = Settings.load()
    folders = [str(folder.absolute()) for folder in destinations] or settings.destinations
    if not folders:
        raise o.OptionConflictError("where to? Give --to FOLDER, or list `destinations` in config/settings.yaml")
    order = Order.of(settings, key, profile, 0)
    return order.distribute(weights=net_named(model, key, "--model").sha, destinations=folders)
