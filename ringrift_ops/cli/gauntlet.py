"""``ringrift gauntlet``."""

from __future__ import annotations

from typing import Annotated

import typer

from ringrift_ops.cli import options as o
from ringrift_ops.stages.specs import GauntletSpec, Stage


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("gauntlet")(gauntlet)


def gauntlet(
    context: typer.Context,
    model: Annotated[str | None, typer.Option("--model", help="Candidate: a file, a sha256 or canonical.")] = None,
    config: o.Config = None,
    board: o.Board = None,
    players: o.Players = None,
    games: Annotated[
        int | None, typer.Option("--games", help="Games per look; play goes on to the cap until it is decided.")
    ] = None,
    opponents: Annotated[
        str | None, typer.Option("--opponents", help="Of random,heuristic,previous; else all there are.")
    ] = None,
    simulations: Annotated[int | None, typer.Option("--simulations", help="Search per move.")] = None,
    mirror_games: Annotated[
        int | None, typer.Option("--mirror-games", help="Shown, not gated: against heuristic search as deep.")
    ] = None,
    parallel: Annotated[int, typer.Option("--parallel", help="Only 1: all games run in one compiled process.")] = 1,
    profile: o.Profile = None,
    seed: o.Seed = None,
    verbose: o.Verbose = False,
    as_json: o.AsJson = False,
    spec: o.SpecFile = None,
    result: o.ResultFile = None,
    heartbeat: o.HeartbeatPath = None,
) -> None:
    """Play a candidate against random, the heuristic and the canonical net, and give the gate's verdict."""
    from ringrift_ops.cli.running import run_stage

    def asked() -> GauntletSpec:
        if parallel != 1:
            raise o.OptionValueError(
                f"--parallel {parallel}: the games of a gauntlet run in one compiled process, so only 1 is possible; "
                "gauntlets of several nets run side by side as runs of Airflow"
            )
        return spec_of(
            o.config_of(config, board, players),
            model,
            opponents=opponents,
            profile=profile,
            seed=o.seed_of(seed),
            games=games,
            simulations=simulations,
            mirror_games=mirror_games,
        )

    run_stage(context, Stage.GAUNTLET, o.Doors(spec, result, heartbeat, as_json, verbose), asked)


def spec_of(
    key: str,
    model: str | None,
    *,
    profile: str | None,
    seed: int,
    opponents: str | None = None,
    games: int | None = None,
    simulations: int | None = None,
    mirror_games: int | None = None,
) -> GauntletSpec:
    """Return what the options ask for; raises ``UnknownOpponentError``, ``NoSuchNetError`` and their like."""
    from ringrift_ops.cli.nets import canonical_net, net_named
    from ringrift_ops.settings import Settings, opponent_named
    from ringrift_ops.stages.order import Order

    if model is None:
        raise o.OptionConflictError("which net? Give --model FILE, a sha256 or canonical")
    named = None if opponents is None else [opponent_named(name.strip()) for name in opponents.split(",")]
    candidate = net_named(model, key, "--model")
    previous = canonical_net(key)
    if previous is not None and previous.sha == candidate.sha:
        previous = None
    if previous is None and named is not None and "previous" in named:
        raise o.OptionConflictError(f"--opponents previous: {key} has no canonical net other than --model")
    order = Order.outside(Settings.load(), key, profile, seed)
    planned = order.gauntlet(
        candidate=candidate.sha,
        candidate_path=str(candidate.path),
        previous=previous.sha if previous else None,
        previous_path=str(previous.path) if previous else None,
    )
    return o.changed(
        planned,
        {
            "opponents": named,
            "games_per_look": games,
            "mirror_games": mirror_games,
            "search": {"simulations": simulations},
        },
    )
