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
        list[Path] | None,
        typer.Option("--to", help="Folder, repeatable; else the settings' and all hosts."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Send again what is there already.")] = False,
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
    """Deliver a net to its destinations and verify every copy by hash.

    There the canonical name is the canonical net's: another net lies beside it, under its own name.
    """
    from ringrift_ops.cli.running import run_stage

    def asked() -> DistributeSpec:
        return spec_of(o.config_of(config, board, players), model, destinations or [], profile=profile, force=force)

    run_stage(context, Stage.DISTRIBUTE, o.Doors(spec, result, heartbeat, as_json, verbose), asked)


def spec_of(
    key: str, model: str, destinations: list[Path], *, profile: str | None, force: bool = False
) -> DistributeSpec:
    """Return what the options ask for; raises ``NoSuchNetError`` and ``OptionConflictError``."""
    from ringrift_ops.cli.nets import net_in_store
    from ringrift_ops.home import Home
    from ringrift_ops.settings import Settings
    from ringrift_ops.stages.order import Order
    from ringrift_ops.stages.plan import host_destinations

    settings = Settings.load()
    everywhere = [*settings.destinations, *host_destinations(Home(settings.home))]
    places = [str(folder.absolute()) for folder in destinations] or everywhere
    if not places:
        raise o.OptionConflictError(
            "where to? Give --to FOLDER, list `destinations` in config/settings.yaml, or hosts in the inventory"
        )
    order = Order.outside(settings, key, profile, 0)
    spec = order.distribute(weights=net_in_store(model, key, "--model").sha, destinations=places)
    return spec.model_copy(update={"force": force})
