"""``ringrift export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ringrift_ops.cli import options as o
from ringrift_ops.cli.parity import discovered
from ringrift_ops.stages.specs import ExportSpec, Stage

Databases = Annotated[list[Path] | None, typer.Option("--db", help="Game database; may be given several times.")]
Discover = Annotated[
    bool, typer.Option("--use-discovery", help="Find every database of the config in the home's data/games.")
]
MaxSamples = Annotated[
    int | None, typer.Option("--max-samples", help="Sample so many, uniformly over games; never 'the first'.")
]


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("export")(export)


def export(
    context: typer.Context,
    databases: Databases = None,
    use_discovery: Discover = False,
    config: o.Config = None,
    board: o.Board = None,
    players: o.Players = None,
    output: Annotated[Path | None, typer.Option("--output", help="NPZ to write; else the store only.")] = None,
    max_samples: MaxSamples = None,
    split_ratio: Annotated[float | None, typer.Option("--split-ratio", help="Share of games to train on.")] = None,
    window: Annotated[int | None, typer.Option("--window", help="Keep only the newest so many rows.")] = None,
    dense: Annotated[
        bool, typer.Option("--dense", help="Write RingRift's whole key set to --output, for programs that read it.")
    ] = False,
    object_policies: Annotated[
        bool, typer.Option("--object-policies", help="With --dense: RingRift's pickled policy arrays, too.")
    ] = False,
    profile: o.Profile = None,
    seed: o.Seed = None,
    verbose: o.Verbose = False,
    as_json: o.AsJson = False,
    spec: o.SpecFile = None,
    result: o.ResultFile = None,
    heartbeat: o.HeartbeatPath = None,
) -> None:
    """Turn games that passed parity into a dataset, split by game."""
    from ringrift_ops.cli.running import run_stage

    def asked() -> ExportSpec:
        return spec_of(
            o.config_of(config, board, players),
            databases or [],
            use_discovery=use_discovery,
            quiet=as_json,
            output=output,
            profile=profile,
            seed=o.seed_of(seed),
            max_samples=max_samples,
            split_ratio=split_ratio,
            window=window,
            dense=dense,
            object_policies=object_policies,
        )

    run_stage(context, Stage.EXPORT, o.Doors(spec, result, heartbeat, as_json, verbose), asked)


def spec_of(
    key: str,
    databases: list[Path],
    *,
    use_discovery: bool = False,
    quiet: bool = True,
    output: Path | None = None,
    profile: str | None,
    seed: int,
    max_samples: int | None = None,
    split_ratio: float | None = None,
    window: int | None = None,
    dense: bool = False,
    object_policies: bool = False,
) -> ExportSpec:
    """Return what the options ask for; prints ``path: N games`` of what it discovers unless ``quiet`` (R13).

    Raises :class:`~ringrift_ops.cli.options.OptionConflictError`, ``MissingFileError``, ``MissingDatabaseError``.
    """
    from ringrift_ops.ledger import Ledger
    from ringrift_ops.operations.waivers import waiver_asked_for
    from ringrift_ops.settings import Settings
    from ringrift_ops.stages.order import Order

    paths = [o.existing(path, "--db") for path in databases]
    if use_discovery:
        if paths:
            raise o.OptionConflictError("--use-discovery finds the databases itself; leave --db out")
        paths = [one.path for one in discovered(key, quiet=quiet)]
    if not paths:
        raise o.OptionConflictError(f"which games? Give --db FILE, or --use-discovery for all of {key}")
    if object_policies and not dense:
        raise o.OptionConflictError("--object-policies is about the file of --dense; give both")
    if dense and output is None:
        raise o.OptionConflictError("--dense writes a file for other programs; say where with --output FILE")
    settings = Settings.load()
    waiver = waiver_asked_for(Ledger.open(settings.ledger_url), settings, "parity", key, "cli")
    order = Order.outside(settings, key, profile, seed)
    target = str(output.absolute()) if output else None
    planned = order.export(databases=[str(path) for path in paths], window=window, output=None if dense else target)
    return o.changed(
        planned,
        {
            "max_samples": max_samples,
            "split_ratio": split_ratio,
            "dense": target if dense else None,
            "object_policies": object_policies or None,
            "waiver": None if waiver is None else waiver.id,
        },
    )
