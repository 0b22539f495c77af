"""The runbooks' own names in Python. Each is a few lines that call the real function; see docs/runbooks.

>>> from ringrift_ops.runbook import get_pipeline_orchestrator
>>> get_pipeline_orchestrator().get_stage_status("hex8_2p", "export")  # doctest: +SKIP
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ringrift_ops.home import Home
from ringrift_ops.ledger import Breaker, Evaluation, Incident, IncidentNote, Ledger
from ringrift_ops.ledger import Wait as Waiter
from ringrift_ops.operations import incidents
from ringrift_ops.operations.alerts import Alert
from ringrift_ops.operations.breakers import breaker_status, reset
from ringrift_ops.operations.by import By
from ringrift_ops.operations.control import Reset, start, trigger
from ringrift_ops.operations.control import reset as reset_config
from ringrift_ops.operations.health import Health, health
from ringrift_ops.operations.holdings import HeldGames, databases_of
from ringrift_ops.operations.locks import Lock, locks, release
from ringrift_ops.operations.log_analysis import Analysis, analyze
from ringrift_ops.operations.reviews import escalation, review, story
from ringrift_ops.operations.status import cell_of, cell_shape, stage_status
from ringrift_ops.operations.waiting import waiters_for
from ringrift_ops.platform.facts import airflow_facts, controls, look, watch
from ringrift_ops.settings import CONFIGS, config_key, config_named
from ringrift_ops.stages.curriculum import weights
from ringrift_ops.store import sha256_file

if TYPE_CHECKING:
    from ringrift_ops.operations.promotions import Answer, Followed


class PipelineOrchestrator:
    """Status and control of the pipeline under the runbooks' method names. Holds no state."""

    def get_all_stage_status(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Return {config: {stage: {completed, status, error, started_at, ended_at, run_id, ...}}} (R1)."""
        return stage_status(look())

    def get_stage_status(self, config: str, stage: str) -> dict[str, Any]:
        """Return one cell of it; raises ``UnknownConfigError``, ``UnknownStageError`` with the valid names (R2)."""
        return cell_shape(cell_of(look(config), config, stage))

    async def trigger_stage(
        self, config: str, stage: str, force: bool = False, following: bool = False, reason: str = "trigger_stage"
    ) -> str:
        """Start a run limited to a stage and return its id (R3); see ``operations.control.trigger``."""
        return trigger(
            controls(), By.here(reason, "python"), config, stage, force=force, following=following
        ).run_id  # fmt: skip

    async def start_pipeline_for_config(self, config: str, reason: str = "start_pipeline_for_config") -> str:
        """Start a generation and return the run's id (R5)."""
        return start(controls(), By.here(reason, "python"), config).run_id

    async def reset_pipeline_state(self, config: str, reason: str = "reset_pipeline_state") -> Reset:
        """Clear the failed or stuck state, lease and breakers of a config; every artifact stays (R4)."""
        return reset_config(controls(), By.here(reason, "python"), config)

    async def reset_all_pipeline_states(self, reason: str = "reset_all_pipeline_states") -> list[Reset]:
        """Do the same for every config."""
        return [reset_config(controls(), By.here(reason, "python"), config) for config in CONFIGS]

    def health_check(self) -> Health:
        """Return .is_healthy, .reasons and .details with active_count and stalled_count (R6)."""
        return health(look())


def get_pipeline_orchestrator() -> PipelineOrchestrator:
    """Return the pipeline of this home."""
    return PipelineOrchestrator()


class Router:
    """Who waits for what an event tells of. Nothing subscribes here: runs ask whether their condition is true (R28)."""

    def get_subscribers(self, event: str) -> list[Waiter]:
        """Return the runs that wait for it now; raises ``UnknownEventError``."""
        return waiters_for(Ledger.open(), event)


def get_router() -> Router:
    """Return the router of this home."""
    return Router()


def get_circuit_breaker_status(config: str | None = None) -> dict[str, dict[str, Any]]:
    """Return {action: {"open", "failures", "configs"}} for every action (R9)."""
    return breaker_status(Ledger.open(), config)


def reset_circuit_breaker(
    action: str | None, config: str | None = None, *, reason: str = "reset_circuit_breaker"
) -> list[Breaker]:
    """Close the breakers of an action (None: of all) and return those that were not at rest (R10)."""
    return reset(Ledger.open(), By.here(reason, "python"), action, config)


class TrainingLock:
    """The training lock of a config, or of all of them."""

    def __init__(self, config: str | None = None) -> None:
        self.config = None if config is None else config_named(config).key

    def held(self) -> list[Lock]:
        """Return every lock that is held (R76)."""
        found = controls()
        return locks(found.home, found.ledger, self.config, airflow=found.airflow)

    def is_locked(self) -> bool:
        return bool(self.held())

    def get_holder(self) -> str | None:
        """Return who holds it, None when nobody does; of several ``config: holder`` each."""
        held = self.held()
        if self.config is not None or not held:
            return held[0].holder if held else None
        return ", ".join(f"{one.config}: {one.holder}" for one in held)

    def force_release(self, reason: str = "") -> list[Lock]:
        """Release it and return what was held; one in use needs a reason. Raises ``LockInUseError``."""
        found, by = controls(), By.here(reason, "python")
        released = [release(found.home, found.ledger, by, one.config, airflow=found.airflow) for one in self.held()]
        return [one for one in released if one is not None]


def training_lock(config: str | None = None) -> TrainingLock:
    """Return the training lock of a config (R23), or all of them (R76)."""
    return TrainingLock(config)


def release_training_lock(config: str, force: bool = False, reason: str = "") -> list[Lock]:
    """Release the lock of a config whose holder is gone; with ``force`` and a reason also one in use (R23)."""
    return training_lock(config).force_release(reason if force else "")


def emit_model_promoted(config_key: str, model_path: str, source: str) -> Followed:
    """Record it, and do again what follows a promotion; only of the net that is in force (R75)."""
    from ringrift_ops.operations.promotions import announce

    found = controls()
    return announce(
        found.home, found.settings, found.ledger, By.here(source, "python"), config_key, model_path
    )  # fmt: skip


class PromotionController:
    """Promotion under the runbooks' method names. Holds no state."""

    @classmethod
    def get_instance(cls) -> PromotionController:
        """Return the controller of this home (R76)."""
        return cls()

    @property
    def last_evaluation(self) -> Evaluation | None:
        """Return the newest evaluation of any config, None before the first (R76)."""
        found = Ledger.open().evaluations(limit=1)
        return found[0] if found else None

    async def evaluate_and_promote(
        self,
        model_path: str,
        board_type: str,
        num_players: int,
        gauntlet_games: int | None = None,
        dry_run: bool = False,
        reason: str = "evaluate_and_promote",
    ) -> Answer:
        """Play the net's gauntlet and promote it if it passes: .promoted, .canonical_path, .failure_reason (R50)."""
        from ringrift_ops.operations.promotions import Asked, Desk, Net, promote_net
        from ringrift_ops.stages.heartbeat import silent

        found, path = controls(), Path(model_path)
        desk = Desk(found.home, found.settings, found.ledger)
        net = Net(sha256_file(path), path.absolute())
        asked = Asked(gauntlet=True, games=gauntlet_games, dry_run=dry_run)
        return promote_net(desk, By.here(reason, "python"), config_key(board_type, num_players), net, asked, silent)


class EvaluationDaemon:
    """Evaluations under the runbooks' method names (R52). Holds no state."""

    async def queue_evaluation(
        self, model_path: str, config_key: str, priority: str = "normal", reason: str = "queue_evaluation"
    ) -> str:
        """Start a run that judges a net (a file or a sha256) and return its id."""
        from ringrift_ops.operations.evaluations import queue_evaluation
        from ringrift_ops.operations.promotions import net_of

        found = controls()
        net = net_of(found.home, found.ledger, model_path)
        return queue_evaluation(found, By.here(reason, "python"), config_key, net, priority).run_id

    def get_evaluation_status(self, config: str) -> dict[str, Any]:
        """Return {"last", "queued"} of a config."""
        from ringrift_ops.operations.evaluations import evaluation_status

        return evaluation_status(controls(), config)


def get_evaluation_daemon() -> EvaluationDaemon:
    """Return the evaluations of this home."""
    return EvaluationDaemon()


class GameDiscovery:
    """Game databases under the runbooks' method names (R27). Holds no state but where to look."""

    def __init__(self, folder: str | None = None) -> None:
        self.folder = None if folder is None else Path(folder)

    def find_databases_for_config(self, board_type: str, num_players: int) -> list[HeldGames]:
        """Return the databases that hold games of a config, by what is in them: .path, .game_count."""
        return databases_of(Home.find(), config_key(board_type, num_players), self.folder)[0]


def get_curriculum_weights() -> dict[str, float]:
    """Return {config: weight} of the games of the next generations (R59)."""
    return weights(Ledger.open().promotion_kinds())


def get_incidents(unclosed: bool = True) -> list[Incident]:
    """Return the incidents, newest first (R46)."""
    return Ledger.open().incidents(unclosed=unclosed)


def acknowledge_incident(incident: int) -> Incident:
    """Take an incident on, which stops its clock; raises ``ClosedIncidentError`` (R46)."""
    return incidents.acknowledge(watch(), By.here("", "python"), incident)


def note_incident(incident: int, text: str) -> IncidentNote:
    """Write down what was found or done about an incident."""
    return incidents.note(watch(), By.here("", "python"), incident, text)


def close_incident(incident: int, reason: str, cause: str | None = None) -> Incident:
    """Close an incident with what was done and, when it is known, what it was; raises ``ClosedIncidentError``."""
    return incidents.close(watch(), By.here(reason, "python"), incident, cause)


def escalation_template(incident: int) -> str:
    """Return the escalation template of an incident, filled (R46)."""
    return escalation(story(Ledger.open(), incident))


def post_incident_review(incident: int) -> str:
    """Return the post-incident review page of an incident as Markdown (R46)."""
    return review(story(Ledger.open(), incident))


def get_alerts() -> list[Alert]:
    """Return what fires now; changes nothing (R8, R34)."""
    return incidents.firing_now(watch(), airflow_facts(Home.find()))


def analyze_logs(since: datetime | None = None, until: datetime | None = None, level: str = "warning") -> Analysis:
    """Return the counts of known patterns and the groups of unknown errors in the logs of a time (R38)."""
    return analyze(Home.find(), since, until, level)
