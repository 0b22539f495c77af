"""The three tables of policy. A threshold anywhere else is a defect.

Sources: game lengths from appendix C2 of the rule book (longest of the recorded games); gate rates from
the operators' promotion runbook for two players, scaled to the seats for three and four.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from ringrift_ops.settings.checks import CHECKS as CHECKS
from ringrift_ops.settings.checks import Checks as Checks
from ringrift_ops.settings.checks import Row
from ringrift_ops.settings.remedies import Mode
from ringrift_ops.stages.specs import RemedyName, Stage

Rate = Field(gt=0.0, lt=1.0)
Family = Literal["sparse", "convolutional"]


# --- gates ---------------------------------------------------------------------------------------
#
# GATE_VERSION changes with every number below, and every evaluation and promotion stores it together
# with its raw counts, so that a gate that was lowered until it passed is visible afterwards (F12).
#
# Change log
#   1  first table: random .85/.74/.65, heuristic .60/.43/.33 for 2/3/4 players, previous 1/n;
#      95 % bounds over at least 100 paired games, GSPRT [0, +50 Elo] with alpha = beta = 5 %.
#   2  against the previous net at most 1,400 and 1,600 games with 3 and 4 players instead of 1,000, which had a power
#      of 92.9 and 90.3 % at +50 Elo where openings suit one player by 200 Elo. Half the upper LLR bound passes at the
#      cap (so before as well, but the table did not say it).

GATE_VERSION = "2"


class GateThresholds(Row):
    """Win rates that a candidate has to reach, against each opponent, in one config."""

    random: float = Rate
    heuristic: float = Rate
    previous: float = Rate
    overridden: tuple[str, ...] = Field(default=(), description="thresholds not from this table, as name=value")

    @property
    def version(self) -> str:
        """The gate version stored with an evaluation; names every threshold that is not the table's."""
        return "+".join((GATE_VERSION, *self.overridden))

    def against(self, opponent: str) -> float:
        """Return the threshold against ``random``, ``heuristic`` or ``previous``."""
        return float(getattr(self, opponent))


class GateRules(Row):
    """How a gate decides; the same for every config."""

    confidence: float = Field(default=0.95, gt=0.5, lt=1.0, description="of the bounds of a win rate")
    minimum_games: int = Field(default=100, description="paired games before any verdict against a fixed baseline")
    minimum_distinct: float = Field(default=0.95, description="share of distinct games below which NO_EVIDENCE")
    alpha: float = Field(default=0.05, description="false promotion")
    beta: float = Field(default=0.05, description="missed improvement")
    elo_h0: float = Field(default=0.0, description="logistic Elo, against the previous net")
    elo_h1: float = Field(default=50.0, description="logistic Elo, against the previous net")
    last_look_share: float = Field(
        # Looking only every 50 games overshoots the bounds, which leaves 2 % of the 5 % false promotions unused; this
        # spends a little of them: at most 3.5 % of 10,000 candidates at 0 Elo, and power at +50 Elo rises from 93.5 to
        # 95.3 % with four players, from 93.7 to 95.5 % with two whose openings suit one (rating/simulate, 2026-11-23).
        default=0.5, gt=0.0, le=1.0,
        description="share of the upper LLR bound that passes at the cap, where no game can be added; 1 = Wald's bound",
    )  # fmt: skip
    opening_decisions: int = Field(default=6, description="uniform legal decisions before the players take over")


GATE = GateRules()


# --- configs -------------------------------------------------------------------------------------


class ConfigRow(Row):
    """One of the 12 configs. ``sparse`` and ``convolutional``: sizes of the net in that family."""

    key: str
    board: Literal["square8", "square19", "hex8", "hexagonal"]
    players: int = Field(ge=2, le=4)
    cron: str = Field(
        pattern=r"^[\d*/,-]+( [\d*/,-]+){4}$",
        description="of the schedule, UTC; staggered so that no two configs start together",
    )
    longest_game: int = Field(gt=0, description="moves of the longest recorded game (RULES.md appendix C2)")
    max_moves: int = Field(ge=5, description="cap per game: longest_game x 1.5, rounded up")
    gate: GateThresholds
    sparse: dict[str, int]
    convolutional: dict[str, int]

    @property
    def large(self) -> bool:
        """Whether games are several times longer than on the 8-cell boards."""
        return self.board in ("square19", "hexagonal")

    def sizes(self, family: Family) -> dict[str, int]:
        """Return the net's sizes in ``family``, as ``TrainSpec.sizes`` wants them."""
        return dict(self.sparse if family == "sparse" else self.convolutional)


SIZES: dict[Family, tuple[str, ...]] = {
    "sparse": ("hidden", "dense", "policy"),
    "convolutional": ("blocks", "channels"),
}
"""What the sizes of a net are called in each family."""

_SMALL_SPARSE = {"hidden": 64, "dense": 32}
_LARGE_SPARSE = {"hidden": 48, "dense": 32}
_SMALL_CONVOLUTIONAL = {"blocks": 6, "channels": 64}
_LARGE_CONVOLUTIONAL = {"blocks": 8, "channels": 64}


def _row(key: str, cron: str, longest: int, random: float, heuristic: float, previous: float) -> ConfigRow:
    board, players = key.removesuffix("p").rsplit("_", 1)
    large = board in ("square19", "hexagonal")
    return ConfigRow(
        key=key,
        board=board,
        players=int(players),
        cron=cron,
        longest_game=longest,
        max_moves=math.ceil(longest * 1.5),
        gate=GateThresholds(random=random, heuristic=heuristic, previous=previous),
        sparse=_LARGE_SPARSE if large else _SMALL_SPARSE,
        convolutional=_LARGE_CONVOLUTIONAL if large else _SMALL_CONVOLUTIONAL,
    )


#    config           schedule (UTC)     longest  random  heur.  previous
_CONFIG_ROWS = (
    _row("square8_2p", "0 */6 * * *", 272, 0.85, 0.60, 1 / 2),
    _row("square8_3p", "30 */6 * * *", 341, 0.74, 0.43, 1 / 3),
    _row("square8_4p", "0 1-23/6 * * *", 448, 0.65, 0.33, 1 / 4),
    _row("hex8_2p", "30 1-23/6 * * *", 283, 0.85, 0.60, 1 / 2),
    _row("hex8_3p", "0 2-23/6 * * *", 373, 0.74, 0.43, 1 / 3),
    _row("hex8_4p", "30 2-23/6 * * *", 456, 0.65, 0.33, 1 / 4),
    _row("square19_2p", "0 3-23/6 * * *", 637, 0.85, 0.60, 1 / 2),
    _row("square19_3p", "30 3-23/6 * * *", 668, 0.74, 0.43, 1 / 3),
    _row("square19_4p", "0 4-23/6 * * *", 1008, 0.65, 0.33, 1 / 4),
    _row("hexagonal_2p", "30 4-23/6 * * *", 1122, 0.85, 0.60, 1 / 2),
    _row("hexagonal_3p", "0 5-23/6 * * *", 1306, 0.74, 0.43, 1 / 3),
    _row("hexagonal_4p", "30 5-23/6 * * *", 1690, 0.65, 0.33, 1 / 4),
)

CONFIGS: dict[str, ConfigRow] = {row.key: row for row in _CONFIG_ROWS}
"""The 12 configs by key, in the order in which every list shows them."""


# --- profiles ------------------------------------------------------------------------------------


class ProfileRow(Row):
    """How much of everything one generation gets."""

    name: str
    schedule_ticks: bool = Field(description="whether the cron of a config starts runs by itself")
    cooldown_seconds: int = Field(ge=0, description="least time between two trainings of a config")

    shards: int = Field(gt=0, description="equal parts of the games, each a job with a seed of its own")
    first_games: int = Field(gt=0, description="games of generation 1, over all shards")
    first_player: Literal["random", "heuristic"]
    first_simulations: int = Field(ge=0, description="PUCT simulations in generation 1; 0 = plain play")
    games: int = Field(gt=0, description="games of a later generation, over all shards")
    simulations: int = Field(ge=0, description="PUCT simulations in later generations")
    c_puct: float = Field(default=1.5, gt=0.0)
    first_temperature: float = Field(ge=0.0, description="of generation 1 (of scores when play is plain)")
    temperature: float = Field(ge=0.0, description="of visit counts in later generations")
    temperature_plies: int = Field(ge=0, description="plies after which temperature is 0")
    noise_fraction: float = Field(ge=0.0, le=1.0, description="Dirichlet share at the root, later generations")
    random_move_fraction: float = Field(ge=0.0, le=1.0, description="uniform legal moves")
    opening_plies: int = Field(ge=0, description="uniform legal decisions at the start of every game")

    parity_sample: int = Field(ge=0, description="games per batch; 0 = all")
    parity_fail_threshold: float = Field(ge=0.0, le=1.0, description="share of failed games allowed; canonical data: 0")

    window_minimum_rows: int = Field(gt=0, description="m of the window; also the rows below which training waits")
    window_exponent: float = Field(default=0.65, gt=0.0, lt=1.0, description="e of the window")
    window_slope: float = Field(default=0.4, gt=0.0, le=1.0, description="g of the window")
    split_ratio: float = Field(default=0.9, gt=0.0, lt=1.0, description="share of games in the training split")
    max_samples: int | None = Field(default=None, gt=0, description="of a dataset, uniform over games; None = all")

    family: Family
    device: str
    epochs: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    learning_rate: float = Field(gt=0.0)
    weight_decay: float = Field(ge=0.0)
    clip_norm: float = Field(gt=0.0)
    checkpoint_every_steps: int = Field(gt=0)
    checkpoint_every_epoch: bool = Field(default=False, description="besides (R45)")
    keep_checkpoints: int = Field(default=3, ge=1, description="newest within a training that are kept (R45)")
    remedies: tuple[RemedyName, ...] = Field(
        default=("out_of_memory", "divergence", "corrupt_checkpoint"), description="what a training mends by itself"
    )
    data_subset: float = Field(default=1.0, gt=0.0, le=1.0, description="share of a dataset's games to train on (R40)")
    stop_after_epochs: int = Field(
        default=0, ge=0, description="epochs in a row without improvement that end a training (R21); 0 = none do"
    )
    mixed_precision: bool = Field(default=False, description="train in bfloat16 (R40)")
    cudnn_benchmark: bool = Field(default=False, description="let cuDNN look for its fastest kernels (R40)")
    cudnn_deterministic: bool = Field(default=False, description="only cuDNN kernels that repeat their bits (R40)")

    gauntlet_simulations: int = Field(ge=0)
    games_per_look: int = Field(gt=0)
    cap: int = Field(gt=0, description="games against a fixed baseline")
    cap_previous: int = Field(gt=0, description="games against the previous net")
    mirror_games: int = Field(ge=0, description="against heuristic search at equal simulations; shown, not gated")

    task_timeout_seconds: int = Field(gt=0, description="of any one task")
    epoch_timeout_seconds: int = Field(default=1_800, gt=0, description="of an epoch of a training (R40)")
    stall_seconds: int = Field(gt=0, description="silence of a heartbeat after which its job counts as dead")
    disk_free_bytes: int = Field(ge=0, description="with less, nothing that fills the disk is started")
    remedy_mode: Mode = Field(default="act", description="off, observe or act: leases, links, deliveries, memory")
    remedy_stalled: Mode = Field(default="observe", description="the same for jobs that are silent too long")

    def window(self, usable_rows: int) -> int:
        """Return how many of the newest ``usable_rows`` N to train on (KataGo's window).

        (N^e - m^e) / (e * m^(e-1)) * g + m: equals m at m, with slope g; all rows below m.
        """
        m, e, g = self.window_minimum_rows, self.window_exponent, self.window_slope
        if usable_rows <= m:
            return usable_rows
        return min(usable_rows, int((usable_rows**e - m**e) / (e * m ** (e - 1)) * g + m))


TINY = ProfileRow(
    name="tiny",
    schedule_ticks=False,
    cooldown_seconds=0,
    shards=2,
    first_games=200,
    first_player="heuristic",
    first_simulations=0,
    games=60,
    simulations=16,
    first_temperature=0.5,
    temperature=0.8,
    temperature_plies=10_000,
    noise_fraction=0.25,
    random_move_fraction=0.05,
    opening_plies=6,
    parity_sample=0,
    parity_fail_threshold=0.0,
    window_minimum_rows=2_000,
    family="sparse",
    device="cpu",
    epochs=2,
    batch_size=512,
    learning_rate=1e-3,
    weight_decay=1e-2,
    clip_norm=1.0,
    checkpoint_every_steps=50,
    gauntlet_simulations=8,
    # Fewer games than GATE.minimum_games on purpose: this gauntlet can only end FAIL `inconclusive`.
    games_per_look=24,
    cap=48,
    cap_previous=48,
    mirror_games=24,
    task_timeout_seconds=1_200,
    stall_seconds=120,
    disk_free_bytes=500 * 10**6,
)

QUICK = ProfileRow(
    name="quick",
    schedule_ticks=False,
    cooldown_seconds=0,
    shards=2,
    first_games=4_000,
    first_player="heuristic",
    first_simulations=32,
    games=4_000,
    simulations=64,
    c_puct=2.5,
    first_temperature=0.8,
    temperature=0.8,
    # Greedy after the opening third: outcomes tell more. Third nets scored 61 % [57, 65] of 400 games against heuristic
    # search; with temperature to the end and 5 % uniform moves 52 % [48, 56] (hex8_2p, one run each, 2026-11-25).
    temperature_plies=50,
    noise_fraction=0.25,
    random_move_fraction=0.02,
    opening_plies=6,
    parity_sample=0,
    parity_fail_threshold=0.0,
    window_minimum_rows=250_000,
    family="sparse",
    device="cpu",
    epochs=4,
    batch_size=1_024,
    learning_rate=1e-3,
    weight_decay=1e-2,
    clip_norm=1.0,
    checkpoint_every_steps=200,
    gauntlet_simulations=64,
    games_per_look=50,
    cap=400,
    cap_previous=1_000,
    mirror_games=400,
    task_timeout_seconds=3_600,
    stall_seconds=180,
    disk_free_bytes=2 * 10**9,
)

STANDARD = ProfileRow(
    name="standard",
    schedule_ticks=True,
    cooldown_seconds=300,
    # More than hosts have slots, so that fast ones take more of them; cut by number alone, never by who plays.
    shards=32,
    first_games=20_000,
    first_player="heuristic",
    first_simulations=32,
    games=5_000,
    simulations=200,
    first_temperature=0.8,
    temperature=0.8,
    temperature_plies=40,
    noise_fraction=0.25,
    random_move_fraction=0.02,
    opening_plies=4,
    parity_sample=0,
    parity_fail_threshold=0.0,
    window_minimum_rows=500_000,
    family="convolutional",
    device="cuda",
    epochs=4,
    # 256 samples for 8 GB of GPU memory, 512 from 16 GB on (R31).
    batch_size=512,
    learning_rate=1e-3,
    weight_decay=1e-4,
    clip_norm=1.0,
    checkpoint_every_steps=500,
    gauntlet_simulations=200,
    games_per_look=50,
    cap=400,
    cap_previous=1_000,
    mirror_games=200,
    task_timeout_seconds=14_400,
    stall_seconds=600,
    # Training needs about 10 GB for checkpoints (R31).
    disk_free_bytes=10 * 10**9,
)

PROFILES: dict[str, ProfileRow] = {row.name: row for row in (TINY, QUICK, STANDARD)}

LARGE_BOARD: dict[str, dict[str, object]] = {
    # Games on the large boards are five to eight times longer and each move costs several times more.
    "tiny": {"first_games": 24, "games": 12, "simulations": 4, "gauntlet_simulations": 2, "cap": 24, "cap_previous": 24,
             "games_per_look": 12, "mirror_games": 0},
    "quick": {"first_games": 400, "first_simulations": 8, "games": 120, "simulations": 16, "gauntlet_simulations": 16,
              "mirror_games": 24, "window_minimum_rows": 100_000},
    "standard": {"first_games": 4_000, "games": 1_000},
}  # fmt: skip
"""What differs from a profile's row on square19 and hexagonal."""

MORE_PLAYERS: dict[int, dict[str, dict[str, object]]] = {
    # A game of n seats tells less about one of them: where openings suit one player by 200 Elo these are the games that
    # a power of 95 % at +50 Elo takes (rating/simulate, 2026-11-25). Where the answer is clear none of them is played.
    3: {"quick": {"cap_previous": 1_400}, "standard": {"cap_previous": 1_400}},
    4: {"quick": {"cap_previous": 1_600}, "standard": {"cap_previous": 1_600}},
}
"""What differs from a profile's row with 3 and 4 players."""


def packaged_profile(name: str, config: ConfigRow) -> ProfileRow:
    """Return the row of profile ``name`` as it holds for ``config`` where nobody has changed it."""
    large = LARGE_BOARD[name] if config.large else {}
    more = MORE_PLAYERS.get(config.players, {}).get(name, {})
    return ProfileRow.model_validate(PROFILES[name].model_dump() | large | more)


POOLS: dict[Stage, str] = {
    Stage.SELFPLAY: "selfplay",
    Stage.PARITY: "selfplay",
    Stage.TRAIN: "training",
    Stage.GAUNTLET: "evaluation",
}
"""Airflow's pool for the tasks of a stage; the others use the default pool."""


# --- leases --------------------------------------------------------------------------------------


class LeaseRules(Row):
    """How long the ledger believes in somebody it does not hear from."""

    generation_seconds: int = Field(default=3_600, description="a generation's lease, unless it is renewed")
    waiting_seconds: int = Field(
        default=300, description="a waiting generation that has not asked for so long loses its turn, not its place"
    )
    waiver_seconds: int = Field(default=86_400, description="longest life of a waiver (R14)")


LEASES = LeaseRules()


# --- hosts ---------------------------------------------------------------------------------------


class HostRules(Row):
    """How work on other machines is reached, watched and given up. Seconds unless said otherwise."""

    most_parallel_jobs: int = Field(default=256, description="upper limit of a host's max_parallel_jobs")
    connect_seconds: float = Field(default=20.0, description="for one connection, from TCP to authentication")
    connect_tries: int = Field(default=6, description="when a busy sshd (MaxStartups) drops a connection at once")
    connect_pause_seconds: float = Field(default=0.5, description="before the second try; doubled, with chance, after")
    again_seconds: float = Field(default=5.0, description="a host that failed is not asked again for so long")
    answer_seconds: float = Field(default=30.0, description="for an answer of the host's own program")
    submit_seconds: float = Field(default=180.0, description="for a submission, which may first end a dead attempt")
    digest_seconds: float = Field(default=900.0, description="for hashing a file on the host")
    keepalive_seconds: float = Field(default=5.0, description="between two signs of life of a connection")
    keepalive_misses: int = Field(default=3, description="signs missed until a connection counts as dead")
    poll_seconds: float = Field(default=5.0, description="between two looks of a deferred task at a job on a host")
    lost_seconds: float = Field(default=600.0, description="a host unreachable for so long is lost: work moves on")
    health_seconds: float = Field(default=20.0, description="per host in `ringrift cluster health` and its like")
    tend_cron: str = Field(default="*/5 * * * *", description="when the DAG `hosts` looks after every host, UTC")
    tend_seconds: float = Field(
        default=240.0, description="per host in one look; what a transfer has not done by then, the next goes on with"
    )
    install_seconds: float = Field(default=900.0, description="for installing the package on a host")
    drain_seconds: float = Field(default=14_400.0, description="for a host's jobs to end before an update")
    checkpoint_seconds: float = Field(default=300.0, description="between two copies of a training's checkpoint")
    transfer_block: int = Field(default=131_072, description="bytes per read or write of a file transfer")
    transfer_ahead: int = Field(default=32, description="blocks under way at the same time")


HOSTS = HostRules()

GPU_BATCH_SIZES: tuple[tuple[float, int], ...] = ((15.0, 512), (0.0, 256))
"""(least GB of GPU memory, samples per batch): 256 at 8 GB, 512 from 16 GB on (R31); a 16 GB card shows 15.x."""


# --- operations ----------------------------------------------------------------------------------


class OperationsRules(Row):
    """When something is said, refused or given up."""

    begin_seconds: float = Field(
        default=300.0,
        description="what a job may take longer to begin than between two heartbeats: compiling takes minutes at worst",
    )
    confirm_seconds: float = Field(default=10.0, description="a silent job is watched so long before it is ended")
    log_first_events: int = Field(default=10_000, description="newest events that a log begins with when it is missing")
    breaker_failures: int = Field(default=5, description="infrastructure errors in a row that open a breaker")
    breaker_seconds: int = Field(default=600, description="after which an open breaker lets one attempt through")
    watch_seconds: float = Field(default=2.0, description="between two pictures of `ringrift status --watch`")
    recent_events: int = Field(default=20, description="events that a status shows")


OPERATIONS = OperationsRules()


class RetentionRules(Row):
    """What is kept, however old. Never removed at all: see ``operations.retention``."""

    checkpoints: int = Field(default=5, ge=1, description="newest unfinished trainings per config (R31)")
    datasets: int = Field(default=5, ge=1, description="newest per config")
    nets: int = Field(default=5, ge=1, description="newest per config")
    job_days: float = Field(default=30.0, gt=0.0, description="folders of finished jobs: logs, specs, results")
    sent_days: float = Field(default=1.0, gt=0.0, description="what hosts of role edge have sent and nobody wants")
    log_days: float = Field(default=30.0, gt=0.0, description="logs that nobody writes any more, Airflow's among them")
    log_bytes: int = Field(default=64 * 10**6, gt=0, description="of a log of events, which then begins anew")
    airflow_days: float = Field(
        default=35.0, gt=30.0, description="rows of Airflow's own database; longer than any run may wait"
    )


RETENTION = RetentionRules()


class DataRules(Row):
    """What a dataset must be to train on, and what is only said about it."""

    least_games: int = Field(default=10, description="games in a dataset")
    mover_mean: float = Field(
        default=0.6, description="largest |mean value of the mover|: beyond it one outcome is missing"
    )
    duplicate_share: float = Field(default=0.2, description="of positions that are in it before; said, not refused")
    drift: float = Field(default=0.25, description="population stability index against the dataset before; said only")
    cron: str = Field(default="0 3 * * 1", description="when every config's newest dataset is looked through, UTC")
    drift_bins: int = Field(default=10, description="tenths of the earlier dataset's positions, by ply")
    training_memory_bytes: int = Field(default=10**9, description="free memory that a training begins with, at least")
    learning_rate: float = Field(default=1.0, description="largest that is not taken for a slip of the pen")
    epochs: int = Field(default=1_000)
    batch_size: int = Field(default=65_536)


DATA = DataRules()
