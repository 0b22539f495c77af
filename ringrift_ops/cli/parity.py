"""``ringrift parity`` and ``ringrift parity diff``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ringrift_ops.cli import options as o
from ringrift_ops.stages.specs import ParitySpec, Stage

if TYPE_CHECKING:
    from ringrift_ops.games.discovery import FoundDatabase

Databases = Annotated[
    list[Path] | None,
    typer.Option("--db", help="Game database; may be given several times. None: those with games yet unchecked."),
]
Sample = Annotated[int | None, typer.Option("--sample", help="Games per database, 0 = all; else the profile's.")]
Threshold = Annotated[
    float | None, typer.Option("--fail-threshold", help="Share of games that may differ; 0 for canonical data.")
]


def add_to(app: typer.Typer) -> None:
    """Register the verb and its one subcommand."""
    group = typer.Typer(invoke_without_command=True, no_args_is_help=False)
    group.callback()(parity)
    group.command("diff")(diff)
    app.add_typer(group, name="parity")


def parity(
    context: typer.Context,
    databases: Databases = None,
    config: o.Config = None,
    board: o.Board = None,
    players: o.Players = None,
    sample: Sample = None,
    fail_threshold: Threshold = None,
    bundles: Annotated[Path | None, typer.Option("--bundles", help="Folder for state bundles of failures.")] = None,
    profile: o.Profile = None,
    seed: o.Seed = None,
    verbose: o.Verbose = False,
    as_json: o.AsJson = False,
    spec: o.SpecFile = None,
    result: o.ResultFile = None,
    heartbeat: o.HeartbeatPath = None,
) -> None:
    """Replay recorded games in both rule engines and compare every position; writes the verdicts into the databases."""
    if context.invoked_subcommand is not None:
        return
    from ringrift_ops.cli.running import run_stage

    def asked() -> ParitySpec:
        key = config_of_databases(databases or [], config, board, players)
        return spec_of(
            databases or unchecked(key),
            config=key,
            profile=profile,
            seed=o.seed_of(seed),
            sample=sample,
            fail_threshold=fail_threshold,
            bundles=bundles,
        )

    run_stage(context, Stage.PARITY, o.Doors(spec, result, heartbeat, as_json, verbose), asked)


def spec_of(
    databases: list[Path],
    *,
    config: str,
    profile: str | None,
    seed: int,
    sample: int | None = None,
    fail_threshold: float | None = None,
    bundles: Path | None = None,
) -> ParitySpec:
    """Return what the options ask for; raises :class:`~ringrift_ops.cli.options.MissingFileError`."""
    from ringrift_ops.settings import Settings
    from ringrift_ops.stages.order import Order

    paths = [str(o.existing(path, "--db")) for path in databases]
    order = Order.outside(Settings.load(), config, profile, seed)
    changes = {
        "sample": sample,
        "fail_threshold": fail_threshold,
        "bundles": str(bundles.absolute()) if bundles else None,
    }
    return o.changed(order.parity(batches=paths), changes)


def config_of_databases(databases: list[Path], config: str | None, board: str | None, players: int | None) -> str:
    """Return the config that the options name, else the one config that the databases hold.

    Raises :class:`~ringrift_ops.cli.options.OptionConflictError` when they hold several.
    """
    if config is not None or board is not None or players is not None:
        return o.config_of(config, board, players)
    from ringrift_ops.games.reader import GameDatabase

    if not databases:
        raise o.OptionConflictError("which games? Give --db FILE, or --config for those of a config yet unchecked")
    held: set[str] = set()
    for path in databases:
        with GameDatabase(o.existing(path, "--db")) as database:
            held.update(database.configs())
    if len(held) != 1:
        raise o.OptionConflictError(f"the databases hold {', '.join(sorted(held)) or 'no games'}: give --config")
    return held.pop()


def discovered(key: str, *, quiet: bool) -> list[FoundDatabase]:
    """Return every database of a config below the home's data/games, printed unless ``quiet``.

    Those that were backed out or cannot be read are named on stderr. Raises ``MissingDatabaseError`` when there is
    none.
    """
    import sys

    from ringrift_ops.games.database import MissingDatabaseError
    from ringrift_ops.home import Home
    from ringrift_ops.ledger import Ledger
    from ringrift_ops.operations.holdings import usable

    home = Home.find()
    nothing = MissingDatabaseError(f"No games found: no database of {key} below {home.games}; run selfplay first")
    if not home.games.is_dir():
        raise nothing
    found, left_out = usable(home, Ledger.open(), key)
    if not quiet:
        for one in found:
            print(one)
    for path, reason in left_out.items():
        print(f"{path}: left out: {reason}", file=sys.stderr)
    if not found:
        raise nothing
    return found


def unchecked(key: str) -> list[Path]:
    """Return the databases of a config below the home's data/games with games that have not passed parity.

    Raises ``MissingDatabaseError`` when there is no database, ``NothingToCheckError`` when every game has passed.
    """
    from ringrift_ops.stages.parity import NothingToCheckError

    found = discovered(key, quiet=True)
    paths = [one.path for one in found if one.passed < one.games]
    if not paths:
        games = sum(one.games for one in found)
        raise NothingToCheckError(f"all {games} games of {key} have passed parity; --db FILE checks one's games again")
    return paths


def diff(
    bundle: Annotated[Path, typer.Argument(help="State bundle that a parity check wrote.")],
    as_json: o.AsJson = False,
) -> None:
    """Show in words where two engines parted (R69)."""
    from ringrift_ops.cli.output import print_json
    from ringrift_ops.parity.bundles import describe_bundle, read_bundle

    content = read_bundle(o.existing(bundle, "BUNDLE"))
    if as_json:
        print_json(content)
    else:
        print(describe_bundle(content))
