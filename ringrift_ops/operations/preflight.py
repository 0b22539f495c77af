"""Before a training: configuration, dataset, resources, permissions; each with its numbers and its fix (R35, R42)."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ringrift_ops.errors import InfrastructureError, NoDataError, RingRiftError, UsageError
from ringrift_ops.home import Home
from ringrift_ops.operations.datasets import DataReport, validate_dataset
from ringrift_ops.operations.disk import pressure
from ringrift_ops.operations.surroundings import Machine
from ringrift_ops.settings import DATA, GPU_BATCH_SIZES, ProfileRow
from ringrift_ops.stages.specs import Stage, TrainSpec

DEVICES = ("cpu", "cuda")
_SMI_SECONDS = 10.0


class WrongConfigurationError(UsageError):
    """Fields of a training have values that cannot be used."""


class UnfitDatasetError(NoDataError):
    """The dataset is not one to train on."""


class MissingResourcesError(InfrastructureError):
    """This machine cannot do the training now."""


@dataclass(frozen=True)
class Check:
    """One check: what was found, in numbers, and what to do when it did not pass."""

    name: str
    passed: bool
    found: str
    fix: str


_ERRORS: Mapping[str, type[RingRiftError]] = {
    "configuration": WrongConfigurationError,
    "dataset": UnfitDatasetError,
    "resources": MissingResourcesError,
    "permissions": MissingResourcesError,
}


def training_spec(fields: Mapping[str, Any]) -> TrainSpec:
    """Return the spec of these fields; raises :class:`WrongConfigurationError` with every wrong one and its range."""
    wrong = wrong_fields(fields)
    if wrong:
        raise WrongConfigurationError("; ".join(wrong))
    return TrainSpec.model_validate(fields)


def wrong_fields(fields: Mapping[str, Any]) -> list[str]:
    """Return every field of a training that cannot be used, with the value given and the valid range (R35)."""
    found = {}
    try:
        TrainSpec.model_validate(fields)
    except ValidationError as error:
        for one in error.errors(include_url=False):
            name = str(one["loc"][0])
            found[name] = f"{name}: {one['msg']} (given: {one.get('input')!r}; valid: {_range(name)})"
    limits = {"learning_rate": DATA.learning_rate, "epochs": DATA.epochs, "batch_size": DATA.batch_size}
    for name, most in limits.items():
        value = fields.get(name)
        if isinstance(value, int | float) and value > most:
            found[name] = f"{name}: more than {most:g} (given: {value!r}; valid: {_range(name)})"
    if isinstance(fields.get("device"), str) and fields["device"] not in DEVICES:
        found["device"] = f"device: no such device (given: {fields['device']!r}; valid: {_range('device')})"
    return [found[name] for name in sorted(found)]


def _range(name: str) -> str:
    """Return what a field takes, in words: its type, bounds or choices."""
    if name == "device":
        return " or ".join(DEVICES)
    known = TrainSpec.model_json_schema()["properties"]
    if name not in known:
        return f"no such field; fields: {', '.join(known)}"
    rule = known[name]
    if "enum" in rule:
        return " or ".join(rule["enum"])
    most = {"learning_rate": DATA.learning_rate, "epochs": DATA.epochs, "batch_size": DATA.batch_size}.get(name)
    low = f"more than {rule['exclusiveMinimum']:g}" if "exclusiveMinimum" in rule else ""
    low = low or (
        f"{rule['minimum']:g} or more" if "minimum" in rule else str(rule.get("type", "see `describe train`"))
    )
    return low if most is None else f"{low}, at most {most:g}"


def preflight(home: Home, spec: TrainSpec, profile: ProfileRow, machine: Machine | None = None) -> list[Check]:
    """Return the four checks of a training, passed or not; reads the dataset once."""
    report = validate_dataset(home.resolve(spec.dataset_path), spec.config)
    return [
        _configuration(spec),
        _dataset(report),
        _resources(spec, profile, machine or Machine.here(home)),
        _permissions(home, home.resolve(spec.dataset_path)),
    ]


def require(checks: list[Check]) -> None:
    """Let a training begin; raises the error of the first check that did not pass, its fix in the message."""
    for one in checks:
        if not one.passed:
            raise _ERRORS[one.name](f"preflight, {one.name}: {one.found}; {one.fix}")


def _configuration(spec: TrainSpec) -> Check:
    wrong = wrong_fields(spec.model_dump(mode="json"))
    if wrong:
        return Check("configuration", False, "; ".join(wrong), "correct these fields")
    found = f"{spec.family}, {spec.epochs} epochs, batch {spec.batch_size}, rate {spec.learning_rate:g}, {spec.device}"
    return Check("configuration", True, found, "")


def _dataset(report: DataReport) -> Check:
    blocking = [one for one in report.issues if one.blocking]
    if blocking:
        words = "; ".join(f"{one.check}: {one.message}" for one in blocking)
        return Check("dataset", False, words, blocking[0].fix)
    facts = report.statistics
    said = "".join(f"; {one.check}: {one.message}" for one in report.issues)
    return Check("dataset", True, f"{facts['samples']:,} samples of {facts['games']:,} games{said}", "")


def _resources(spec: TrainSpec, profile: ProfileRow, machine: Machine) -> Check:
    wrong, fix = [], []
    if (full := pressure(machine, Stage.TRAIN, profile)) is not None:
        wrong.append(full)
        fix.append("`ringrift retention plan`")
    if machine.memory_free < DATA.training_memory_bytes:
        need = DATA.training_memory_bytes / 1e9
        wrong.append(f"{machine.memory_free / 1e9:.1f} GB memory free on {machine.name}, {need:g} GB are needed")
        fix.append("end other work, or train on another host")
    gpu = ""
    if spec.device == "cuda":
        memory = gpu_memory()
        if memory is None:
            wrong.append(f"device cuda, and nvidia-smi shows no GPU on {machine.name}")
            fix.append("train on a host with a GPU, or with --device cpu")
        else:
            gpu = f", GPU with {memory / 1e9:.0f} GB"
            most = next(batch for least, batch in GPU_BATCH_SIZES if memory >= least * 1e9)
            if spec.batch_size > most:
                wrong.append(f"batch {spec.batch_size} on a GPU with {memory / 1e9:.0f} GB, which takes {most}")
                fix.append(f"--batch-size {most}")
    if wrong:
        return Check("resources", False, "; ".join(wrong), "; ".join(fix))
    free = f"{machine.memory_free / 1e9:.1f} GB memory, {machine.disk_free / 1e9:.0f} GB disk free"
    return Check("resources", True, f"{machine.cores} cores, load {machine.load:.1f}, {free}{gpu}", "")


def gpu_memory() -> int | None:
    """Return the bytes of this machine's first GPU as ``nvidia-smi`` tells them; None without one."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return None
    query = [command, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=_SMI_SECONDS, check=True)
        return int(done.stdout.split()[0]) * 1024 * 1024
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


def _permissions(home: Home, dataset: Path) -> Check:
    folders = [folder for folder in (home.training, home.store, home.models, home.logs) if folder.exists()]
    shut = [str(folder) for folder in folders if not os.access(folder, os.W_OK | os.X_OK)]
    if shut:
        return Check("permissions", False, f"not writable: {', '.join(shut)}", f"`chmod u+rwx {' '.join(shut)}`")
    if dataset.exists() and not os.access(dataset, os.R_OK):
        return Check("permissions", False, f"not readable: {dataset}", f"`chmod u+r {dataset}`")
    return Check("permissions", True, "dataset readable, training, store, models and logs writable", "")
