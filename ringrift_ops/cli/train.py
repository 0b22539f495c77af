"""``ringrift train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from ringrift_ops.cli import options as o
from ringrift_ops.stages.specs import Stage, TrainSpec


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("train")(train)


def train(
    context: typer.Context,
    config: o.Config = None,
    board: o.Board = None,
    players: o.Players = None,
    data: Annotated[Path | None, typer.Option("--data-path", "--data", help="Dataset (NPZ) made by export.")] = None,
    init_from: Annotated[
        str | None, typer.Option("--init-from", help="Start from these weights: canonical, a sha256 or a file.")
    ] = None,
    resume_from: Annotated[
        Path | None, typer.Option("--resume-from", help="Go on from this checkpoint of an interrupted training.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Samples per step.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Passes over the training split.")] = None,
    learning_rate: Annotated[float | None, typer.Option("--learning-rate", help="Of the first step.")] = None,
    family: Annotated[str | None, typer.Option("--family", help="sparse or convolutional.")] = None,
    device: Annotated[str | None, typer.Option("--device", help="cpu or cuda.")] = None,
    epoch_timeout: Annotated[
        float | None,
        typer.Option("--epoch-timeout", help="Seconds an epoch may take; 1800 unless the profile differs."),
    ] = None,
    timeout: Annotated[
        float | None, typer.Option("--timeout", help="Seconds all of it may take; else what the profile allows a task.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", help="Link to the weights in the store.")] = None,
    profile: o.Profile = None,
    seed: o.Seed = None,
    verbose: o.Verbose = False,
    as_json: o.AsJson = False,
    spec: o.SpecFile = None,
    result: o.ResultFile = None,
    heartbeat: o.HeartbeatPath = None,
) -> None:
    """Train a net on a dataset, from a random start or from given weights."""
    from ringrift_ops.cli.running import run_stage

    def asked() -> TrainSpec:
        return spec_of(
            o.config_of(config, board, players),
            data,
            profile=profile,
            seed=seed,
            init_from=init_from,
            resume_from=resume_from,
            family=family,
            output=output,
            batch_size=batch_size,
            epochs=epochs,
            learning_rate=learning_rate,
            device=device,
            epoch_seconds=epoch_timeout,
            total_seconds=timeout,
        )

    run_stage(context, Stage.TRAIN, o.Doors(spec, result, heartbeat, as_json, verbose), asked)


def spec_of(
    key: str,
    data: Path | None,
    *,
    profile: str | None,
    seed: int | None,
    init_from: str | None = None,
    resume_from: Path | None = None,
    family: str | None = None,
    output: Path | None = None,
    batch_size: int | None = None,
    epochs: int | None = None,
    learning_rate: float | None = None,
    device: str | None = None,
    epoch_seconds: float | None = None,
    total_seconds: float | None = None,
) -> TrainSpec:
    """Return what the options ask for; raises :class:`~ringrift_ops.cli.options.MissingFileError` and its like.

    Without ``seed`` a training that goes on from a checkpoint has that training's seed, any other a fresh one.
    """
    from ringrift_ops.cli.nets import net_in_store
    from ringrift_ops.settings import Settings
    from ringrift_ops.stages.order import Order
    from ringrift_ops.store import sha256_file

    if data is None:
        raise o.OptionConflictError("which dataset? Give --data-path FILE, made by `ringrift export`")
    path = o.existing(data, "--data-path")
    if path.is_dir():
        raise o.OptionValueError(f"--data-path {path}: a folder; name the dataset in it")
    settings = Settings.load()
    checkpoint = None if resume_from is None else o.existing(resume_from, "--resume-from")
    if seed is None and checkpoint is not None:
        seed = seed_beside(checkpoint)
    parent = None if init_from is None else net_in_store(init_from, key, "--init-from").sha
    order = Order.outside(settings, key, profile, o.seed_of(seed))
    planned = order.train(
        dataset=sha256_file(path),
        dataset_path=str(path),
        parent=parent,
        resume_from=None if checkpoint is None else str(checkpoint),
        output=str(output.absolute()) if output else None,
    )
    if family is not None:
        if family not in ("sparse", "convolutional"):
            raise o.OptionValueError(f"--family {family}: sparse or convolutional")
        sizes = settings.config(key).sparse if family == "sparse" else settings.config(key).convolutional
        planned = o.changed(planned, {"family": family}).model_copy(update={"sizes": dict(sizes)})
    return o.changed(
        planned,
        {
            "batch_size": batch_size,
            "epochs": epochs,
            "learning_rate": learning_rate,
            "device": device,
            "epoch_seconds": epoch_seconds,
            "total_seconds": total_seconds,
        },
    )


def seed_beside(checkpoint: Path) -> int | None:
    """Return the seed of the training a checkpoint belongs to, from the spec beside it; None when there is none."""
    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
    try:
        return TrainSpec.model_validate_json((folder / "spec.json").read_bytes()).seed
    except (OSError, ValidationError):
        return None
