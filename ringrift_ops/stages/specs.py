"""What each of the seven stages is asked and what it answers: frozen models that forbid unknown keys.

No field that says where data or a parent came from has a default. A spec plus the code version
determines the result; paths are absolute or relative to ``RINGRIFT_HOME``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Sha256 = str
"""64 lower-case hex digits: the name of an immutable artifact."""

MOST_SIMULATIONS = 50_000
"""A tree of so many nodes and its policies take 0.6 GB on hex8 and 4 GB on hexagonal."""


class Stage(StrEnum):
    """The pipeline in order. ``ringrift_ops.settings.stage_named`` accepts the runbooks' aliases."""

    SELFPLAY = "selfplay"
    PARITY = "parity"
    EXPORT = "export"
    TRAIN = "train"
    GAUNTLET = "gauntlet"
    PROMOTE = "promote"
    DISTRIBUTE = "distribute"


class Verdict(StrEnum):
    """The gate's answer (gates.md). NO_EVIDENCE is a failed measurement, never a bad result."""

    PASS = "PASS"
    FAIL = "FAIL"
    NO_EVIDENCE = "NO_EVIDENCE"


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Asked(Frozen):
    """What somebody asks for: its numbers are numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Verified(Frozen):
    """One line of a remedy's verification list."""

    name: str
    ok: bool
    evidence: str


RemedyName = Literal["out_of_memory", "divergence", "corrupt_checkpoint"]
"""What a training may mend by itself."""


class Remedy(Frozen):
    """What was mended without asking anybody: why, how, the how-manieth time of how many, and whether it helped."""

    kind: str = Field(description="a training's own is a RemedyName")
    step: int | None = Field(description="of the training; None outside one")
    reason: str
    action: str
    tries: int = Field(ge=1)
    bound: int = Field(ge=1)
    verified: list[Verified] = Field(
        default_factory=list, description="the runbook's verification list, run afterwards"
    )


class StageSpec(Asked):
    """Fields common to every stage."""

    config: str = Field(description="config key such as hex8_2p")
    generation: int | None = Field(description="ledger id of the generation; None outside a generation")
    token: int = Field(description="fencing token of the generation lease; 0 outside a generation")
    seed: int = Field(description="derived from the generation key; every random draw comes from it")


class SearchSettings(Asked):
    """How a player chooses its moves."""

    simulations: int = Field(
        ge=0, le=MOST_SIMULATIONS, description="PUCT simulations per decision; 0 = plain one-ply play"
    )
    c_puct: float = 1.5
    temperature: float = Field(ge=0.0, description="of visit counts (search) or scores (plain)")
    temperature_plies: int = Field(default=10_000, ge=0, description="plies after which temperature is 0")
    noise_fraction: float = Field(default=0.0, ge=0.0, le=1.0, description="Dirichlet share at the root")
    random_move_fraction: float = Field(default=0.0, ge=0.0, le=1.0, description="uniform legal moves")


class SelfplaySpec(StageSpec):
    shard: int = Field(ge=0)
    games: int = Field(gt=0)
    max_moves: int = Field(ge=5, description="cap per game; RingRift completes no game with fewer moves than five")
    player: Literal["random", "heuristic", "net"]
    weights: Sha256 | None = Field(description="net of every seat; None unless player is net")
    search: SearchSettings
    opening_plies: int = Field(ge=0, description="uniform random legal decisions at the start of each game")
    output: str | None = Field(description="file to write; None = the home's data/games")


class SelfplayResult(Frozen):
    batch: Sha256 = Field(description="content digest of the games, clocks left out")
    path: str
    games: int
    moves: int
    distinct_fraction: float
    policy_games: int = Field(description="games whose decisions carry a search policy")
    seconds: float
    features: dict[str, str] | None = Field(default=None, description="of the machine that played them")


class ParitySpec(StageSpec):
    batches: list[str] = Field(description="paths of game databases")
    sample: int = Field(ge=0, description="games per database; 0 = all")
    fail_threshold: float = Field(ge=0.0, le=1.0)
    bundles: str | None = Field(description="folder for state bundles; None = the home's data/parity")


class ParityFailure(Frozen):
    database: str
    game_id: str
    move: int
    kinds: list[str]
    bundle: str


class ParityResult(Frozen):
    report: Sha256
    checked: int
    failed: int
    failures: list[ParityFailure]
    passed: bool
    seconds: float


class ExportSpec(StageSpec):
    databases: list[str]
    output: str | None
    max_samples: int | None = Field(gt=0, description="of the dataset, uniform over games; None = all")
    split_ratio: float = Field(gt=0.0, lt=1.0, description="share of games in the training split")
    window: int | None = Field(gt=0, description="newest rows to keep (gates.md data window); None = all")
    dense: str | None = Field(default=None, description="file for RingRift's key set besides; None = none")
    object_policies: bool = Field(default=False, description="RingRift's pickled policy arrays in the dense file")
    waiver: int | None = Field(default=None, description="parity waiver in force; None = only games that passed")


class ExportResult(Frozen):
    dataset: Sha256
    path: str
    games: int
    duplicates_removed: int
    unchecked_games: int = Field(description="games left out because parity has not passed them")
    samples: int
    train_samples: int
    policy_samples: int
    soft_target_fraction: float
    seconds: float
    dense: str | None = Field(default=None, description="the file with RingRift's key set, if it was asked for")
    waived_games: int = Field(default=0, description="games in it that parity has not passed, under the spec's waiver")


class TrainSpec(StageSpec):
    dataset: Sha256
    dataset_path: str
    parent: Sha256 | None = Field(description="weights to start from; None = random start")
    resume_from: str | None = Field(
        description="checkpoint of this very training to go on from; None = its own, if any"
    )
    family: Literal["sparse", "convolutional"]
    sizes: dict[str, int]
    epochs: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    learning_rate: float = Field(gt=0.0)
    weight_decay: float = Field(ge=0.0)
    clip_norm: float = Field(gt=0.0)
    device: str
    checkpoint_every_steps: int = Field(gt=0)
    checkpoint_every_epoch: bool = Field(default=False, description="besides")
    keep_checkpoints: int = Field(default=3, ge=1, description="newest of this training that are kept")
    remedies: tuple[RemedyName, ...] = Field(
        default=("out_of_memory", "divergence", "corrupt_checkpoint"), description="what it may mend by itself"
    )
    data_subset: float = Field(default=1.0, gt=0.0, le=1.0, description="share of the games of both splits")
    stop_after_epochs: int = Field(
        default=0, ge=0, description="epochs in a row without improvement that end it; 0 = none do"
    )
    mixed_precision: bool = Field(default=False, description="forward and backward in bfloat16, weights in float32")
    cudnn_benchmark: bool = Field(default=False, description="let cuDNN look for its fastest kernels")
    cudnn_deterministic: bool = Field(default=False, description="only cuDNN kernels that repeat their bits")
    output: str | None
    epoch_seconds: float = Field(default=1_800.0, gt=0.0, description="longest time of an epoch (R40)")
    total_seconds: float = Field(default=14_400.0, gt=0.0, description="longest time of an attempt (R40)")


class TrainResult(Frozen):
    weights: Sha256
    path: str
    parent: Sha256 | None
    dataset: Sha256
    samples: int
    steps: int
    first_epoch_loss: float
    train_loss: float
    validation_loss: float
    parent_validation_loss: float | None
    served_difference: float = Field(description="max |served - trained| over 256 positions")
    resumed_from_step: int
    seconds: float
    micro_batch: int | None = Field(default=None, description="samples computed at once in the end")
    remedies: list[Remedy] = Field(default_factory=list, description="what was mended on the way")
    stopped_early: str = Field(default="", description="why it ended before its last epoch")


class GauntletSpec(StageSpec):
    candidate: Sha256
    candidate_path: str
    previous: Sha256 | None
    previous_path: str | None
    opponents: list[Literal["random", "heuristic", "previous"]]
    search: SearchSettings
    games_per_look: int = Field(gt=0)
    cap: int = Field(gt=0, description="games against a fixed baseline")
    cap_previous: int = Field(gt=0)
    mirror_games: int = Field(ge=0, description="shown, not gated: against heuristic search at equal simulations")
    max_moves: int = Field(gt=0)


class OpponentResult(Frozen):
    opponent: str
    games: int
    wins: int
    losses: int
    draws: int
    distinct_fraction: float
    win_rate: float
    lower: float
    upper: float
    threshold: float
    verdict: Verdict
    reason: str
    errors: int


class GauntletResult(Frozen):
    report: Sha256
    path: str
    candidate: Sha256
    gate_version: str
    verdict: Verdict
    reason: str
    opponents: list[OpponentResult]
    mirror: OpponentResult | None
    seconds: float


class PromoteSpec(StageSpec):
    candidate: Sha256
    candidate_path: str
    report: Sha256 | None = Field(description="the gauntlet to go by; None only under a waiver")
    report_path: str | None
    auto_promote: bool
    waiver: int | None = Field(default=None, description="gauntlet waiver in force: promote without a PASS")


class PromoteResult(Frozen):
    promoted: bool
    canonical: Sha256 | None
    previous: Sha256 | None
    reason: str


HOST_DESTINATION = "host:"
"""Begins a destination that is a host of the inventory; any other is a folder of this machine."""

NODE_LINK, NODE_STORE = "node:link", "node:store"
"""What a host of role edge is asked: to have a net under its canonical name, or in its store only."""


class DistributeSpec(StageSpec):
    weights: Sha256
    destinations: list[str] = Field(description="folders, and host:NAME of the inventory; node:link, node:store there")
    force: bool = Field(default=False, description="send again what is there already")


class Delivery(Frozen):
    """One net at one destination.

    pending: its host is away, and it catches up later; copying; verified: read back by hash; failed: see error;
    stale: a newer net took its place.
    """

    destination: str
    path: str
    verified: bool
    error: str | None
    state: Literal["pending", "copying", "verified", "failed", "stale"] = "verified"

    @property
    def lost(self) -> bool:
        """Whether somebody has to look after it: it failed, and not because a host is away."""
        return not self.verified and self.state != "pending"


class DistributeResult(Frozen):
    weights: Sha256
    deliveries: list[Delivery]


SPECS: dict[Stage, type[StageSpec]] = {
    Stage.SELFPLAY: SelfplaySpec,
    Stage.PARITY: ParitySpec,
    Stage.EXPORT: ExportSpec,
    Stage.TRAIN: TrainSpec,
    Stage.GAUNTLET: GauntletSpec,
    Stage.PROMOTE: PromoteSpec,
    Stage.DISTRIBUTE: DistributeSpec,
}
"""What each stage is asked."""

RESULTS: dict[Stage, type[Frozen]] = {
    Stage.SELFPLAY: SelfplayResult,
    Stage.PARITY: ParityResult,
    Stage.EXPORT: ExportResult,
    Stage.TRAIN: TrainResult,
    Stage.GAUNTLET: GauntletResult,
    Stage.PROMOTE: PromoteResult,
    Stage.DISTRIBUTE: DistributeResult,
}
"""What each stage answers."""
