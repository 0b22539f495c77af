"""``ringrift train``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

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
    data_subset: Annotated[
        float | None, typer.Option("--data-subset", help="Share of the dataset's games, e.g. 0.1 for a quick test.")
    ] = None,
    mixed_precision: Annotated[
        bool | None, typer.Option("--mixed-precision/--no-mixed-precision", help="Forward and backward in bfloat16.")
    ] = None,
    cudnn_benchmark: Annotated[
        bool | None, typer.Option("--cudnn-benchmark/--no-cudnn-benchmark", help="Look for the fastest kernels.")
    ] = None,
    cudnn_deterministic: Annotated[
        bool | None,
        typer.Option("--cudnn-deterministic/--no-cudnn-deterministic", help="Only kernels that repeat their bits."),
    ] = None,
    checkpoint_every_steps: Annotated[
        int | None, typer.Option("--checkpoint-every-steps", help="Steps between two checkpoints.")
    ] = None,
    checkpoint_every_epoch: Annotated[
        bool | None,
        typer.Option("--checkpoint-every-epoch/--no-checkpoint-every-epoch", help="And one after every epoch."),
    ] = None,
    keep_checkpoints: Annotated[
        int | None, typer.Option("--keep-checkpoints", help="Newest checkpoints of the training that are kept.")
    ] = None,
    stop_after_epochs: Annotated[
        int | None,
        typer.Option("--stop-after-epochs", help="Epochs in a row without improvement that end it; 0: none do."),
    ] = None,
    remedies: Annotated[
        str | None,
        typer.Option("--remedies", help="Of out_of_memory,divergence,corrupt_checkpoint, or none; else all three."),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", help="Link to the weights in the store.")] = None,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Only try it: 1 epoch on 1 % of the games; leaves nothing behind.")
    ] = False,
    overfit: Annotated[
        bool, typer.Option("--overfit-one-batch", help="Only try whether one batch can be learnt by heart.")
    ] = False,
    describe: Annotated[bool, typer.Option("--describe", help="Only say what would be trained, in numbers.")] = False,
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
            data_subset=data_subset,
            mixed_precision=mixed_precision,
            cudnn_benchmark=cudnn_benchmark,
            cudnn_deterministic=cudnn_deterministic,
            checkpoint_every_steps=checkpoint_every_steps,
            checkpoint_every_epoch=checkpoint_every_epoch,
            keep_checkpoints=keep_checkpoints,
            stop_after_epochs=stop_after_epochs,
            remedies=None if remedies is None else [] if remedies == "none" else remedies.split(","),
        )

    if smoke or overfit or describe:
        if smoke + overfit + describe > 1 or spec is not None or result is not None or heartbeat is not None:
            raise o.OptionConflictError(
                "--smoke, --overfit-one-batch and --describe are one each, without --spec, --result and --heartbeat"
            )
        _try(asked(), profile, "smoke" if smoke else "overfit" if overfit else "describe", as_json=as_json)
        return
    run_stage(context, Stage.TRAIN, o.Doors(spec, result, heartbeat, as_json, verbose), asked)


def _try(spec: TrainSpec, profile: str | None, what: str, *, as_json: bool) -> None:
    from ringrift_ops.cli.output import print_fields, print_json
    from ringrift_ops.cli.progress import shown
    from ringrift_ops.home import Home
    from ringrift_ops.operations import trials
    from ringrift_ops.settings import Settings

    home = Home.find()
    row = Settings.load(home).profile(spec.config, profile)
    found: Any
    if what == "describe":
        found = trials.describe(home, spec, row)
    else:
        with shown() as report:
            trial: Callable[..., Any] = trials.smoke if what == "smoke" else trials.overfit_one_batch
            found = vars(trial(home, spec, row, report))
    if as_json:
        print_json(found)
    else:
        print_fields(found)


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
    **fields: Any,
) -> TrainSpec:
    """Return what the options ask for; ``fields`` are those of the spec that are not None.

    Without ``seed`` a training that goes on from a checkpoint has that training's seed, any other a fresh one. Raises
    :class:`~ringrift_ops.cli.options.MissingFileError` and its like.
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
    return o.changed(planned, fields)


def seed_beside(checkpoint: Path) -> int | None:
    """Return the seed of the training a checkpoint belongs to, from the spec beside it; None when there is none."""
    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
    try:
        return TrainSpec.model_validate_json((folder / "spec.json").read_bytes()).seed
    except (OSError, ValidationError):
        return None
