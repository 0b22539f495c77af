"""``ringrift pipeline``: the runbooks' own words for the stages, and the state of the whole (R61, R65)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ringrift_ops.cli import options as o
from ringrift_ops.stages.specs import SelfplaySpec, Stage

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would run, and where.")]
State = Annotated[
    Path | None,
    typer.Option("--state", help="Keep the state in this file, and go on from it; else in pipeline_state.json."),
]


class Backend(StrEnum):
    """Where a phase runs."""

    LOCAL = "local"
    SSH = "ssh"
    P2P = "p2p"


BackendOption = Annotated[
    Backend | None,
    typer.Option(
        "--backend",
        help="local: this machine (as without it); ssh: the inventory's hosts; p2p: a leader elsewhere. For self-play.",
    ),
]
LeaderOption = Annotated[str | None, typer.Option("--p2p-leader", help="Address of a leader's Edge door.")]
LeaderToken = Annotated[
    str | None, typer.Option("--p2p-auth-token", help="Better in RINGRIFT_CLUSTER_AUTH_TOKEN: ps shows this one.")
]


@dataclass(frozen=True)
class _Before:
    """Options that stood before the phase, where the runbooks put them."""

    state: Path | None
    dry_run: bool
    backend: Backend | None
    p2p_leader: str | None
    p2p_token: str | None

    def backend_of(self, backend: Backend | None) -> Backend:
        """Return where to run, of what stood after the phase and before it."""
        return backend or self.backend or Backend.LOCAL


def add_to(app: typer.Typer) -> None:
    """Register the group."""
    group = typer.Typer(no_args_is_help=True)
    group.callback()(pipeline)
    group.command("status")(status)
    phases = typer.Typer(help="Run one phase.", no_args_is_help=True)
    phases.command("canonical_selfplay")(canonical_selfplay)
    phases.command("parity_validation")(parity_validation)
    phases.command("npz_export")(npz_export)
    group.add_typer(phases, name="run")
    app.add_typer(group, name="pipeline")


def pipeline(
    context: typer.Context,
    file: Annotated[
        Path | None,
        typer.Option("--config", help="The pipeline's own settings; else config/pipeline_config.yaml of the home."),
    ] = None,
    state: State = None,
    dry_run: DryRun = False,
    backend: BackendOption = None,
    p2p_leader: LeaderOption = None,
    p2p_token: LeaderToken = None,
) -> None:
    """Phases of the pipeline by the runbooks' names; these options may stand before the phase or after it.

    Only --config means a file here, and a config's key after the phase.
    """
    from ringrift_ops.settings import PIPELINE_VARIABLE

    if file is not None:
        os.environ[PIPELINE_VARIABLE] = str(o.existing(file, "--config"))  # for the jobs of this command as well
    context.obj = _Before(state, dry_run, backend, p2p_leader, p2p_token)


def status(
    context: typer.Context,
    config: o.Config = None,
    state: State = None,
    as_json: o.AsJson = False,
) -> None:
    """Show where the pipeline stands: phase, status, games, workers."""
    from ringrift_ops.cli.output import print_fields, print_json
    from ringrift_ops.ledger import Ledger
    from ringrift_ops.settings import config_named

    before: _Before = context.obj
    found = Ledger.open().pipeline_state(None if config is None else config_named(config).key)
    if not before.dry_run:
        _write_state(state or before.state)
    if as_json:
        print_json(found)
    else:
        print_fields({name: value for name, value in found.items() if name != "configs"})


def canonical_selfplay(
    context: typer.Context,
    config: o.Config = None,
    board: o.Board = None,
    players: o.Players = None,
    games: Annotated[int | None, typer.Option("--num-games", help="Games to play; else the profile's.")] = None,
    output: Annotated[Path | None, typer.Option("--output-db", help="Else a file in the home's data/games.")] = None,
    max_moves: Annotated[int | None, typer.Option("--max-moves", help="Cap per game; else the config's.")] = None,
    profile: o.Profile = None,
    seed: o.Seed = None,
    backend: BackendOption = None,
    p2p_leader: LeaderOption = None,
    p2p_token: LeaderToken = None,
    state: State = None,
    dry_run: DryRun = False,
    as_json: o.AsJson = False,
) -> None:
    """Self-play for canonical data: the net in force, or the heuristic before there is one.

    Killed at any moment, the same command goes on from there: the games that were played are kept.
    """
    from ringrift_ops.cli import leader, playing, selfplay
    from ringrift_ops.cli.running import show_result

    before: _Before = context.obj
    key = o.config_of(config, _board(config, board), players)
    place = None if output is None else output.absolute()
    chosen, dry, kept = before.backend_of(backend), dry_run or before.dry_run, state or before.state
    url, token = p2p_leader or before.p2p_leader, p2p_token or before.p2p_token
    if leader.wanted(chosen.value, url, token):
        leader.refuse_local(seed=seed, max_moves=max_moves)
        asked = leader.Asked(key, profile, games, place)
        leader.selfplay(leader.Leader(url, token), asked, kept, dry_run=dry, as_json=as_json)

    def spec_of() -> SelfplaySpec:
        return selfplay.spec_of(
            key, profile=profile, seed=o.seed_of(seed), output=place, games=games, max_moves=max_moves
        )

    if not dry and not _is_state_of_play(kept):
        _write_state(kept)  # a place that cannot be written is told before the work
    ask = {
        "config": key, "games": games, "output": None if place is None else str(place), "profile": profile,
        "seed": seed, "max_moves": max_moves,
    }  # fmt: skip
    result = playing.play(
        ask, spec_of, backend="ssh" if chosen is Backend.SSH else "local", state=kept, dry_run=dry, as_json=as_json
    )
    if result is not None:
        show_result(result, as_json=as_json)


def parity_validation(
    context: typer.Context,
    databases: Annotated[
        list[Path] | None, typer.Option("--db", help="Game database; else every one of the config.")
    ] = None,
    config: o.Config = None,
    board: o.Board = None,
    players: o.Players = None,
    sample: Annotated[int | None, typer.Option("--sample", help="Games per database; 0 = all.")] = None,
    fail_threshold: Annotated[float | None, typer.Option("--fail-threshold", help="0 for canonical data.")] = None,
    profile: o.Profile = None,
    seed: o.Seed = None,
    state: State = None,
    dry_run: DryRun = False,
    as_json: o.AsJson = False,
) -> None:
    """Replay recorded games in both rule engines and compare."""
    from ringrift_ops.cli import parity

    if databases:
        key = parity.config_of_databases(databases, config, board, players)
    else:
        key = o.config_of(config, _board(config, board), players)
        databases = [one.path for one in parity.discovered(key, quiet=as_json)]
    spec = parity.spec_of(
        databases, config=key, profile=profile, seed=o.seed_of(seed), sample=sample, fail_threshold=fail_threshold
    )
    _run(context, Stage.PARITY, spec, state, dry_run=dry_run, as_json=as_json)


def npz_export(
    context: typer.Context,
    databases: Annotated[
        list[Path] | None, typer.Option("--db", help="Game database; else every one of the config.")
    ] = None,
    output_dir: Annotated[
        Path | None, typer.Option("--output-dir", help="Folder for CONFIG.npz; else the home's data/training.")
    ] = None,
    config: o.Config = None,
    board: o.Board = None,
    players: o.Players = None,
    max_samples: Annotated[int | None, typer.Option("--max-samples", help="Uniformly over games.")] = None,
    profile: o.Profile = None,
    seed: o.Seed = None,
    state: State = None,
    dry_run: DryRun = False,
    as_json: o.AsJson = False,
) -> None:
    """Turn games that passed parity into a dataset."""
    from ringrift_ops.cli import export, parity
    from ringrift_ops.home import Home

    if databases:
        key = parity.config_of_databases(databases, config, board, players)
    else:
        key = o.config_of(config, _board(config, board), players)
    spec = export.spec_of(
        key,
        databases or [],
        use_discovery=not databases,
        quiet=as_json,
        output=(output_dir or Home.find().training) / f"{key}.npz",
        profile=profile,
        seed=o.seed_of(seed),
        max_samples=max_samples,
    )
    _run(context, Stage.EXPORT, spec, state, dry_run=dry_run, as_json=as_json)


def _board(config: str | None, board: str | None) -> str | None:
    """Return the board that was named, else the one of ``pipeline_config.yaml``; None when the config says it."""
    from ringrift_ops.settings import Settings

    return board or (None if config else Settings.load().pipeline.default_board or "square8")


def _is_state_of_play(state: Path | None) -> bool:
    return state is not None and state.exists()


def _run(
    context: typer.Context, stage: Stage, spec: object, state: Path | None, *, dry_run: bool, as_json: bool
) -> None:
    from ringrift_ops.cli.output import print_fields, print_json
    from ringrift_ops.cli.running import run_stage
    from ringrift_ops.stages.specs import StageSpec

    assert isinstance(spec, StageSpec)
    before: _Before = context.obj
    if (elsewhere := before.backend_of(None)) is not Backend.LOCAL or before.p2p_leader is not None:
        raise o.OptionConflictError(
            f"--backend {elsewhere}: {stage.value} is done here, where the games are; only canonical_selfplay goes to "
            "hosts or a leader"
        )
    if dry_run or before.dry_run:
        planned = {"stage": stage.value, "host": "this machine", "spec": spec.model_dump(mode="json")}
        if as_json:
            print_json(planned)
        else:
            print_fields({"stage": stage.value, "host": "this machine"} | spec.model_dump(mode="json"))
        return
    _write_state(state or before.state)  # a place that cannot be written is told before the work
    try:
        run_stage(context, stage, o.Doors(None, None, None, as_json), lambda: spec)
    except typer.Exit:  # the stage has its result, whatever that says
        _write_state(state or before.state)
        raise


def _write_state(path: Path | None) -> None:
    """Write the view of the ledger to ``path``, else where the home keeps it."""
    from ringrift_ops.home import Home
    from ringrift_ops.ledger import Ledger

    Ledger.open().write_pipeline_state(path or Home.find().pipeline_state)
