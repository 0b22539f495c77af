"""Which hosts may do a stage, and which files it needs there and leaves there. Looks at nothing but spec and inventory.

Parity, export, promotion and distribution stay with the ledger: they read games of many hosts, or move pointers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ringrift_ops.errors import UsageError
from ringrift_ops.home import Home
from ringrift_ops.ledger import Slot
from ringrift_ops.settings import GPU_BATCH_SIZES, Host, Inventory, config_named
from ringrift_ops.stages.checkpoints import checkpoint_folder
from ringrift_ops.stages.specs import (
    DistributeSpec,
    Frozen,
    GauntletResult,
    GauntletSpec,
    SelfplayResult,
    SelfplaySpec,
    Sha256,
    Stage,
    StageSpec,
    TrainResult,
    TrainSpec,
)
from ringrift_ops.store import Store

ROLES: dict[Stage, Literal["selfplay", "training"]] = {
    Stage.SELFPLAY: "selfplay",
    Stage.GAUNTLET: "selfplay",
    Stage.TRAIN: "training",
}
"""The stages that hosts do, and the role that does them."""


class NoFittingHostError(UsageError):
    """The inventory has hosts of the role, and none of them can do this."""


class ForeignPathError(UsageError):
    """A stage names a file outside the home, which no host can see."""


@dataclass(frozen=True)
class Input:
    """A file that a stage reads: its place below the home, here and there, and its content."""

    path: str
    sha: Sha256


@dataclass(frozen=True)
class Needs:
    """What a host must be able to do."""

    role: Literal["selfplay", "training"]
    capabilities: frozenset[str]


def needs(stage: Stage, spec: StageSpec) -> Needs | None:
    """Return what the stage needs of a host, None when it stays with the ledger."""
    role = ROLES.get(stage)
    if role is None:
        return None
    wanted = set()
    if isinstance(spec, TrainSpec):
        if spec.device.startswith("cuda"):
            wanted.add("gpu")
        if spec.family == "convolutional" and config_named(spec.config).board in ("square19", "hexagonal"):
            wanted.add("large_memory")
    return Needs(role, frozenset(wanted))


def slots_for(inventory: Inventory, stage: Stage, spec: StageSpec) -> list[Slot]:
    """Return the hosts that may do the stage, empty when this machine does it.

    Training goes to a GPU first, everything else to hosts without one first. A role that no host has stays here.
    Raises :class:`NoFittingHostError`.
    """
    wanted = needs(stage, spec)
    of_role = [] if wanted is None else [host for host in inventory.hosts.values() if host.plays(wanted.role)]
    if wanted is None or not of_role:
        return []
    fitting = [host for host in of_role if wanted.capabilities <= host.abilities]
    if not fitting:
        raise NoFittingHostError(
            f"{stage.value} of {spec.config} needs {' and '.join(sorted(wanted.capabilities))}, and no host of role "
            f"{wanted.role} or mixed has it ({', '.join(host.name for host in of_role)}); correct the inventory, "
            "or choose a profile that trains without"
        )
    training = wanted.role == "training"
    return [
        Slot(host.name, host.max_parallel_jobs, rank=int(("gpu" in host.abilities) != training)) for host in fitting
    ]


def fitted(spec: StageSpec, host: Host) -> StageSpec:
    """Return the spec with the batch size that the host's GPU memory allows (R31)."""
    if not isinstance(spec, TrainSpec) or not spec.device.startswith("cuda") or host.gpu is None:
        return spec
    allowed = next(size for least, size in GPU_BATCH_SIZES if host.gpu.memory_gb >= least)
    return spec.model_copy(update={"batch_size": min(spec.batch_size, allowed)})


def work_of(spec: SelfplaySpec) -> str:
    """Return what a host's rate is kept by besides the config: the player and its search."""
    return f"{spec.player}, {spec.search.simulations} simulations"


def inputs_of(home: Home, spec: StageSpec) -> list[Input]:
    """Return the files that the stage reads. Raises :class:`ForeignPathError`, ``MissingObjectError``."""
    match spec:
        case SelfplaySpec():
            return [] if spec.weights is None else [_stored(home, spec.weights)]
        case TrainSpec():
            parent = [] if spec.parent is None else [_stored(home, spec.parent)]
            return [_named(spec.dataset_path, spec.dataset), *parent]
        case GauntletSpec():
            nets = [(spec.candidate_path, spec.candidate)]
            if spec.previous is not None and spec.previous_path is not None:
                nets.append((spec.previous_path, spec.previous))
            return [_named(path, sha) for path, sha in nets]
        case DistributeSpec():
            return [_stored(home, spec.weights)]
    return []


def outputs_of(result: Frozen) -> list[tuple[str, Sha256 | None]]:
    """Return (place below the home, sha256) of what a stage has made; a batch's own sha is not that of its file."""
    match result:
        case SelfplayResult():
            return [(result.path, None)]
        case TrainResult():
            return [(result.path, result.weights)]
        case GauntletResult():
            return [(result.path, result.report)]
    return []


def batch_path(home: Home, spec: SelfplaySpec) -> Path:
    """Where the batch goes: ``spec.output``, else a name under the home's games that no other shard has."""
    if spec.output is not None:
        return home.resolve(spec.output)
    run = f"g{spec.generation}" if spec.generation is not None else f"seed{spec.seed}"
    return home.games / batch_name(spec.config, run, spec.shard)


def batch_name(config: str, run: str, shard: int) -> str:
    """Return how a shard's batch is called; ``run``: ``g<generation>``, else ``seed<seed>``."""
    return f"selfplay_{config}_{run}_s{shard}.db"


def may_make(home: Home, spec: StageSpec, path: str, sha: Sha256 | None) -> bool:
    """Return whether a stage may leave content ``sha`` at ``path``: its own batch's place, else only the store's."""
    if isinstance(spec, SelfplaySpec):
        return path == home.relative(batch_path(home, spec))
    return is_stored(home, path, sha)


def is_stored(home: Home, path: str, sha: Sha256 | None) -> bool:
    """Return whether ``path`` is where the store has, or would have, the content ``sha``."""
    suffix = Path(path).suffix
    return sha is not None and suffix != "" and path == home.relative(Store(home).path(sha, suffix))


def lies_in(folder: str, path: str) -> bool:
    """Return whether ``path`` names a file right in ``folder``, both below the home."""
    name = path.removeprefix(f"{folder}/")
    return name != path and name not in ("", ".", "..") and "/" not in name


def checkpoints_of(home: Home, spec: StageSpec) -> str | None:
    """Return the folder of a training's checkpoints, below the home; None for other stages."""
    return home.relative(checkpoint_folder(home, spec)) if isinstance(spec, TrainSpec) else None


def _stored(home: Home, sha: Sha256) -> Input:
    return Input(home.relative(Store(home).get(sha)), sha)


def _named(path: str, sha: Sha256) -> Input:
    if Path(path).is_absolute() or ".." in Path(path).parts:
        raise ForeignPathError(
            f"{path} lies outside RINGRIFT_HOME, where no host can have it; import it into the store first"
        )
    return Input(path, sha)
