"""``ringrift selfplay``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ringrift_ops.cli import options as o
from ringrift_ops.stages.specs import SelfplaySpec, Stage


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("selfplay")(selfplay)


def selfplay(
    context: typer.Context,
    config: o.Config = None,
    board: o.Board = None,
    players: o.Players = None,
    games: Annotated[int | None, typer.Option("--num-games", "--games", help="Games to play.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output-db", "--output", help="Database to write; else the home's data/games.")
    ] = None,
    player: Annotated[
        str | None, typer.Option("--player", help="random, heuristic or net; else the canonical net when there is one.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "--weights", help="The net: canonical, a sha256 or a file.")
    ] = None,
    simulations: Annotated[int | None, typer.Option("--simulations", help="Search per move; 0 = plain play.")] = None,
    temperature: Annotated[float | None, typer.Option("--temperature", help="0 = always the best move.")] = None,
    opening_plies: Annotated[int | None, typer.Option("--opening-plies", help="Random moves at the start.")] = None,
    max_moves: Annotated[int | None, typer.Option("--max-moves", help="Cap per game; else the config's.")] = None,
    shard: Annotated[int, typer.Option("--shard", help="Which part of a generation's games this is.")] = 0,
    profile: o.Profile = None,
    seed: o.Seed = None,
    verbose: o.Verbose = False,
    as_json: o.AsJson = False,
    spec: o.SpecFile = None,
    result: o.ResultFile = None,
    heartbeat: o.HeartbeatPath = None,
) -> None:
    """Play games of one config and record them in RingRift's own database format."""
    from ringrift_ops.cli.running import run_stage

    def asked() -> SelfplaySpec:
        return spec_of(
            o.config_of(config, board, players),
            profile=profile,
            seed=o.seed_of(seed),
            shard=shard,
            player=player,
            model=model,
            output=output,
            games=games,
            max_moves=max_moves,
            opening_plies=opening_plies,
            simulations=simulations,
            temperature=temperature,
        )

    run_stage(context, Stage.SELFPLAY, o.Doors(spec, result, heartbeat, as_json, verbose), asked)


def spec_of(
    key: str,
    *,
    profile: str | None,
    seed: int,
    shard: int = 0,
    player: str | None = None,
    model: str | None = None,
    output: Path | None = None,
    games: int | None = None,
    max_moves: int | None = None,
    opening_plies: int | None = None,
    simulations: int | None = None,
    temperature: float | None = None,
) -> SelfplaySpec:
    """Return what the options ask for; raises :class:`~ringrift_ops.cli.options.OptionConflictError` and its like."""
    from ringrift_ops.cli.nets import CANONICAL, canonical_net, net_in_store
    from ringrift_ops.settings import Settings
    from ringrift_ops.stages.order import Order

    if model is not None and player not in (None, "net"):
        raise o.OptionConflictError(f"--model is for --player net, not for --player {player}")
    named = model is not None or player == "net"
    net = net_in_store(model or CANONICAL, key, "--model") if named else canonical_net(key) if player is None else None
    order = Order.outside(Settings.load(), key, profile, seed)
    parent = net.sha if net else None
    planned = order.selfplay(
        parent=parent,
        shard=0,
        games=order.games(parent=parent),
        output=str(output.absolute()) if output else None,
    )
    search = {"simulations": simulations, "temperature": temperature}
    return o.changed(
        planned,
        {
            "shard": shard,
            "player": player,
            "games": games,
            "max_moves": max_moves,
            "opening_plies": opening_plies,
            "search": search,
        },
    )
