"""The causes that are known, as a table: what gives each away, and what mends it. Every row has a section of its page.

``errors`` are the error classes that say it outright; ``words`` is looked for in what the process said; ``held`` are
the reasons of the platform (``Why``) that are it. What takes more than that is a rule in ``diagnosis``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

PAGE = "docs/runbooks/diagnosis.md"


@dataclass(frozen=True)
class Row:
    """One cause. ``fix``: a command; what stands in braces is filled in from the job (``diagnosis.filled``).

    ``{jobs}`` is ``ringrift jobs`` with the job, and its host where it has one.
    """

    cause: str
    title: str
    fix: str
    errors: tuple[str, ...] = ()
    words: str = ""
    but_not: str = ""
    """words that make such a line mean something else"""
    stages: tuple[str, ...] = ()
    """empty: any"""
    held: tuple[str, ...] = ()

    @property
    def anchor(self) -> str:
        return f"{PAGE}#{self.cause.replace('_', '-')}"

    def fits(self, stage: str) -> bool:
        return not self.stages or stage in self.stages

    def says(self, line: str) -> bool:
        """Whether a line of what the process said gives this cause away."""
        if not self.words or not re.search(self.words, line, re.IGNORECASE):
            return False
        return not (self.but_not and re.search(self.but_not, line, re.IGNORECASE))


_MEMORY = ("MemoryError", "OutOfMemoryError", "TrainingMemoryError", "_ArrayMemoryError")
_NO_MEMORY = r"out of memory|can.t allocate memory|cannot allocate memory|unable to allocate|MemoryError"
_GPU = r"\bcuda\b|\bgpu\b|CUBLAS|CUDNN"

ROWS: tuple[Row, ...] = (
    # --- games and data
    Row(
        "no_games",
        "no games",
        "ringrift selfplay --config {config}",
        ("MissingDatabaseError", "EmptyDatabaseError", "NothingToCheckError"),
        r"no games found|holds no games|no games of \w+; run selfplay",
    ),
    Row(
        "games_not_checked",
        "games have not passed parity",
        "ringrift trigger {config} parity",
        ("NoPassedGamesError",),
        r"games in \d+ databases has passed parity|no games have passed parity",
    ),
    Row(
        "parity_failed",
        "the two engines disagree about games",
        "ringrift parity diff {bundle}",
        ("ParityFailedError",),
        r"parity validation failed|games failed parity check|the rule engines disagree on",
    ),
    Row(
        "engine_version",
        "versions do not fit: engine, encoder or package",
        "ringrift cluster update",
        ("VersionMismatchError", "ForeignPolicyError"),
        r"field (encoder_version|encoder_digest|policy_encoding|rules_version) is|has another version of this package|"
        r"version mismatch",
    ),
    Row(
        "engine_crashed",
        "the second engine does not run",
        "ringrift rules conform",
        ("NodeMissingError", "NodeDyingError", "EngineCrashError", "EngineHangError"),
        r"the second engine (died|hangs)",
    ),
    Row(
        "no_dataset",
        "there is no dataset",
        "ringrift export --use-discovery --config {config}",
        ("MissingDatasetError", "NothingToWorkOnError", "DataNotReadyError"),
        r"no training data|there is no dataset|dataset: exists|dataset .*no such file|--data-path .*: no such file",
        stages=("train",),
    ),
    Row(
        "corrupt_dataset",
        "the dataset is damaged",
        "ringrift export --use-discovery --config {config}",
        ("DamagedDatasetError", "DamagedArraysError", "ForeignDatasetError"),
        r"dataset: (corruption|format|readable)|is no NPZ file|it was changed; export it again",
    ),
    Row(
        "unfit_dataset",
        "the dataset is not one to train on",
        "ringrift data validate {config}",
        ("EmptyDatasetError", "UnfitDatasetError", "UnfitDatasetsError"),
        r"dataset: (quantity|label|outlier)",
        r"dataset: (exists|corruption|format|readable)",
    ),
    Row("too_few_games", "too few games to train on", "ringrift start {config}", held=("games",)),
    # --- training
    Row(
        "gpu_memory",
        "out of memory on the GPU",
        "ringrift train --config {config} --data-path {dataset} --batch-size {batch}",
        ("AcceleratorError",),
        rf"(?=.*({_GPU}))(?=.*(out of memory|ALLOC_FAILED))",
        stages=("train",),
    ),
    Row(
        "memory",
        "out of memory",
        "ringrift train --config {config} --data-path {dataset} --batch-size {batch}",
        _MEMORY,
        _NO_MEMORY,
        _GPU,
        stages=("train",),
    ),
    Row(
        "export_memory",
        "out of memory",
        "ringrift export --use-discovery --config {config} --max-samples 100000",
        _MEMORY,
        _NO_MEMORY,
        stages=("export",),
    ),
    Row(
        "gauntlet_memory",
        "the gauntlet is out of memory",
        "ringrift gauntlet --model {model} --config {config} --simulations 16",
        _MEMORY,
        _NO_MEMORY,
        stages=("gauntlet",),
    ),
    Row(
        "stage_memory",
        "out of memory",
        "ringrift cluster health {host}",
        _MEMORY,
        _NO_MEMORY,
        stages=("selfplay", "parity", "promote", "distribute", "unknown"),
    ),
    Row("killed_for_memory", "the kernel killed it for memory", "ringrift cluster health {host}"),
    Row(
        "diverged",
        "the loss diverged or is NaN",
        "ringrift train --config {config} --data-path {dataset} --learning-rate {rate}",
        ("DivergedError",),
        r"loss is nan|training diverged|bad batches in a row",
    ),
    Row(
        "worse_than_parent",
        "worse than its parent after an epoch",
        "ringrift train --config {config} --data-path {dataset} --init-from canonical --learning-rate {rate}",
        ("WorseThanParentError",),
        r"more than x [\d.]+; the training did not start from its parent",
    ),
    Row("plateau", "no improvement any more", "ringrift start {config}", words=r"early stopping after epoch"),
    Row("overfitting", "validation is worse than training", "ringrift start {config}"),
    Row(
        "corrupt_checkpoint",
        "the checkpoint is corrupt",
        "ringrift clear-training-state {config} --reason WHY",
        ("DamagedCheckpointError", "NotACheckpointError", "NoGoodCheckpointError"),
        r"checkpoint .* (cannot be read|was altered|was corrupt)",
    ),
    Row(
        "foreign_checkpoint",
        "the checkpoint is another training's",
        "ringrift train --config {config} --data-path {dataset}",
        ("ForeignCheckpointError", "MissingCheckpointError"),
        r"belongs to another training|there is no checkpoint",
    ),
    Row(
        "wrong_settings",
        "settings that do not fit together",
        "ringrift preflight {config}",
        (
            "WrongConfigurationError",
            "ParentMismatchError",
            "SpecFileError",
            "OptionValueError",
            "SizeError",
            "SettingsFileError",
            "VariableError",
            "JobMisusedError",
        ),
        r"preflight, configuration|incompatible hyperparameters|no such option|missing (option|argument)",
    ),
    Row(
        "no_gpu",
        "the GPU asked for is not there",
        "ringrift train --config {config} --data-path {dataset} --device cpu",
        ("NoSuchDeviceError",),
        r"nvidia-smi shows no GPU|device 'cuda\S*' is not here",
    ),
    Row(
        "served_differently",
        "what is served is not what was trained",
        "ringrift model show {config}",
        ("ServedDifferentlyError",),
        r"served output differs from the training forward",
    ),
    # --- time
    Row(
        "timeout",
        "it ran past its time limit",
        "ringrift recover {config}",
        ("EpochTimeoutError", "TrainingTimeoutError", "TimeoutError"),
        r"ran past its limit|over its time limit",
        stages=("selfplay", "parity", "export", "train", "promote", "unknown"),
    ),
    Row(
        "game_timeout",
        "games take too long",
        "ringrift gauntlet --model {model} --config {config} --simulations 16",
        (),
        r"ran past its limit|over its time limit|game timeout",
        stages=("gauntlet",),
    ),
    Row(
        "hung",
        "it runs and does nothing",
        "{jobs} --kill",
        ("StalledError",),
        r"showed no sign of life",
        held=("stalled",),
    ),
    Row(
        "not_initialised",
        "its process could not start",
        "ringrift cluster health {host}",
        ("JobNotStartedError", "PythonMissingError", "NotBootstrappedError", "ModuleNotFoundError", "ImportError"),
        r"could not start:|ModuleNotFoundError|ImportError|failed to initiali[sz]e|ended before the job began",
    ),
    Row("queued", "it waits for a place", "ringrift status {config}", ("NoFreeHostError",), held=("pool full",)),
    Row("crashed", "its process crashed", "{jobs} --logs --tail 100", (), r"a defect, please report it"),
    Row("ended_on_request", "somebody ended it", "ringrift recover {config}", (), r"killed on request"),
    # --- evaluation and promotion
    Row(
        "model_not_found",
        "the net is not there",
        "ringrift model links --repair",
        ("MissingWeightsError", "NoSuchNetError", "MissingObjectError", "NoNetError", "UnknownArtifactError"),
        r"model not found|there are no weights|there is no net",
    ),
    Row(
        "corrupt_model",
        "the net is damaged",
        "ringrift rollback {config} --reason WHY",
        ("DamagedWeightsError", "DamagedObjectError"),
        r"the file was altered|no whole safetensors file",
        r"checkpoint",
    ),
    Row(
        "opponent_not_found",
        "there is no such opponent",
        "ringrift gauntlet --model {model} --config {config} --opponents random,heuristic",
        ("UnknownOpponentError", "PlayerError", "UnknownPersonaError"),
        r"opponent not found|unknown opponent",
    ),
    Row(
        "games_crashed",
        "the games of the gauntlet prove nothing: broken, missing or the same again",
        "ringrift gauntlet --model {model} --config {config}",
        ("NoEvidenceError",),
        r"^(ringrift: )?NO_EVIDENCE: |all games crashed",
        stages=("gauntlet",),
    ),
    Row(
        "below_threshold",
        "the net is not good enough",
        "ringrift evaluation {config}",
        (),
        r"^FAIL|not promoted: FAIL|below threshold|inconclusive",
        stages=("gauntlet", "promote"),
    ),
    Row(
        "gauntlet_not_triggered",
        "nobody judges the net",
        "ringrift trigger {config} gauntlet",
        ("NoEvaluationError",),
        r"has no gauntlet (to go by|on record)|knows no evaluation with report",
        stages=("gauntlet", "promote"),
    ),
    Row(
        "wrong_model",
        "the net in force is not the one expected",
        "ringrift rollback {config} --reason WHY",
        ("NotCanonicalError", "CanonicalMovedError", "LinksDisagreeError", "WrongNetError"),
        r"links? .* (disagree|wrong)|is not the canonical",
    ),
    Row(
        "symlink_failed",
        "the links to the net cannot be written",
        "ringrift model links --repair",
        (),
        r"cannot write \S*models/|symlink failed",
    ),
    Row(
        "distribution_stuck",
        "the net does not reach its hosts",
        "ringrift trigger {config} distribute",
        ("UndeliveredError", "DistributionTimeoutError", "DamagedTransferError"),
        r"not delivered to|distribution failed",
        stages=("distribute", "promote"),
    ),
    Row(
        "approval_pending",
        "a net that passed waits for a person",
        "ringrift promote --model MODEL --config {config}",
        held=("approval pending",),
    ),
    # --- disk, rights, network
    Row(
        "disk_full",
        "the disk is full",
        "ringrift retention plan",
        ("DiskPressureError", "HostFullError"),
        r"disk is full|no space left on device|disk quota|database or disk is full|GB disk free|"
        r"GB free on \S+, [\d.]+ GB are needed",
        held=("disk",),
    ),
    Row(
        "permission_denied",
        "a file may not be read or written",
        "ringrift preflight {config}",
        ("PermissionError", "HomeNotWritableError"),
        r"permission denied|not writable|not readable|read-only",
        r"publickey|permission denied for user",
    ),
    Row(
        "refused",
        "nobody listens there",
        "ringrift cluster health {host}",
        ("HostRefusedError", "ConnectError", "ConnectionRefusedError"),
        r"connection refused|nobody listens on|cannot connect to (p2p )?leader|no route to host|"
        r"name or service not known",
    ),
    Row(
        "network_timeout",
        "the network does not answer",
        "ringrift cluster health {host}",
        ("HostHangsError", "HostDroppedError", "ReadTimeout", "ConnectTimeout"),
        r"(connection|network|read|request).*timed? ?out|^TimeoutError: timed out|connection (reset|lost)|broken pipe|"
        r"no answer (from|within)|the connection to .* (broke|was closed)",
    ),
    Row(
        "not_let_in",
        "the host does not let us in",
        "ringrift cluster health {host}",
        ("AuthenticationError",),
        r"publickey|authentication failed|does not let .* in|there is no key file",
    ),
    Row(
        "untrusted_host",
        "the host's key is not the trusted one",
        "ringrift cluster trust {host}",
        ("WrongHostKeyError", "UntrustedHostError"),
        r"another host key than|its key is not trusted|host key verification failed",
    ),
    Row(
        "host_lost",
        "its host went away",
        "ringrift cluster health {host}",
        ("LostJobError", "JobDiedError"),
        r"its machine was rebooted|its host is lost|its host \S+ is no longer in",
    ),
    Row(
        "no_fitting_host",
        "no host can do it",
        "ringrift cluster list",
        ("NoFittingHostError",),
        r"no host of role",
        held=("host missing",),
    ),
    # --- the platform
    Row(
        "lock_held",
        "the training lock is held",
        "ringrift lock {config} --release --reason WHY",
        ("LeaseHeldError", "StaleTokenError"),
        r"token \d+ .*(stale|smaller)|lease .* is held",
        held=("lease",),
    ),
    Row(
        "cooldown",
        "the cooldown runs",
        "ringrift trigger {config} train --force --reason WHY",
        ("CooldownError",),
        held=("cooldown",),
    ),
    Row(
        "breaker_open",
        "its breaker is open",
        "ringrift breakers reset {config} {stage} --reason WHY",
        ("BreakerOpenError",),
        held=("breaker open",),
    ),
    Row("paused", "its DAG is paused", "ringrift start {config}", held=("paused",)),
    Row(
        "platform_down",
        "the platform does not run",
        "ringrift up",
        ("PlatformNotRunningError",),
        held=("platform not running",),
    ),
    Row(
        "ledger_unreachable",
        "the ledger does not answer",
        "ringrift health",
        ("LedgerUnavailableError", "LedgerTooOldError", "LedgerTooNewError"),
        r"database is locked|ledger .* cannot be",
    ),
)

BY_NAME = {row.cause: row for row in ROWS}
