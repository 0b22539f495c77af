"""What stages tell the ledger: artifacts with their parents, and the event people read."""

from __future__ import annotations

from collections.abc import Mapping

from ringrift_ops.home import Home
from ringrift_ops.ledger import EventType, GamePair, Ledger, Waiver
from ringrift_ops.settings import Settings
from ringrift_ops.stages.specs import (
    ExportResult,
    ExportSpec,
    GauntletResult,
    GauntletSpec,
    ParityResult,
    ParitySpec,
    SelfplayResult,
    SelfplaySpec,
    Sha256,
    StageSpec,
    TrainResult,
    TrainSpec,
)
from ringrift_ops.store import Store


def open_ledger(home: Home) -> Ledger:
    """The ledger of this installation."""
    return Ledger.open(Settings.load(home).ledger_url)


def _tell(ledger: Ledger, spec: StageSpec, event: EventType, payload: Mapping[str, object]) -> None:
    ledger.record_event(event, spec.config, spec.generation, payload)


def record_games(home: Home, spec: SelfplaySpec, result: SelfplayResult) -> None:
    """A batch, made with a net or without."""
    ledger = open_ledger(home)
    ledger.record_artifact(
        result.batch,
        "games",
        result.path,
        home.resolve(result.path).stat().st_size,
        spec.config,
        spec.generation,
        parents=[] if spec.weights is None else [(spec.weights, "player")],
        meta={"games": result.games, "moves": result.moves, "policy_games": result.policy_games},
        token=spec.token,
    )
    payload = {key: getattr(result, key) for key in ("batch", "path", "games", "moves")}
    _tell(ledger, spec, EventType.SELFPLAY_COMPLETED, {**payload, "shard": spec.shard})


def record_parity(
    home: Home, spec: ParitySpec, result: ParityResult, batches: dict[Sha256, tuple[bool, int, int]]
) -> None:
    """Verdicts by batch digest: (passed, games checked, games failed). Batches foreign to the ledger are left out."""
    ledger = open_ledger(home)
    known = {one.sha for one in ledger.artifacts(config=spec.config, kind="games")}
    path = Store(home).get(result.report)
    ledger.record_artifact(
        result.report,
        "parity_report",
        str(home.relative(path)),
        path.stat().st_size,
        spec.config,
        spec.generation,
        parents=[(sha, "games") for sha in batches if sha in known],
        meta={"checked": result.checked, "failed": result.failed},
        token=spec.token,
    )
    for sha, (passed, checked, failed) in batches.items():
        if sha in known:
            ledger.record_parity(
                sha,
                result.report,
                passed=passed,
                checked=checked,
                failed=failed,
                generation=spec.generation,
                token=spec.token,
            )
    payload = {key: getattr(result, key) for key in ("report", "checked", "failed", "passed")}
    _tell(ledger, spec, EventType.PARITY_VALIDATION_COMPLETED, payload)


def record_dataset(
    home: Home, spec: ExportSpec, result: ExportResult, batches: list[Sha256], waiver: Waiver | None
) -> None:
    """A dataset and the batches it was made of, stamped with the waiver that let games without parity in (R14)."""
    ledger = open_ledger(home)
    known = {one.sha for one in ledger.artifacts(config=spec.config, kind="games")}
    ledger.record_artifact(
        result.dataset,
        "dataset",
        result.path,
        home.resolve(result.path).stat().st_size,
        spec.config,
        spec.generation,
        parents=[(sha, "games") for sha in batches if sha in known],
        meta={
            "samples": result.samples,
            "games": result.games,
            "policy_samples": result.policy_samples,
            "waivers": [] if waiver is None else [_stamp(waiver) | {"games": result.waived_games}],
        },
        token=spec.token,
    )
    payload = {key: getattr(result, key) for key in ("dataset", "path", "games", "samples")}
    _tell(ledger, spec, EventType.EXPORT_COMPLETED, payload)


def _stamp(waiver: Waiver) -> dict[str, object]:
    facts = {"id": waiver.id, "kind": waiver.kind, "reason": waiver.reason, "actor": waiver.actor}
    return facts | {"expires_at": waiver.expires_at.isoformat()}


def record_weights(home: Home, spec: TrainSpec, result: TrainResult, job_id: str) -> None:
    """A net, its dataset and the net it started from."""
    ledger = open_ledger(home)
    known = {one.sha: one for one in ledger.artifacts(config=spec.config)}
    parents = [(result.dataset, "dataset")] + ([] if result.parent is None else [(result.parent, "parent")])
    ledger.record_artifact(
        result.weights,
        "weights",
        result.path,
        home.resolve(result.path).stat().st_size,
        spec.config,
        spec.generation,
        parents=[(sha, role) for sha, role in parents if sha in known],
        meta={
            "samples": result.samples,
            "validation_loss": result.validation_loss,
            "family": spec.family,
            "waivers": [waiver for sha, _ in parents if sha in known for waiver in known[sha].meta.get("waivers", [])],
        },
        token=spec.token,
    )
    payload = {
        key: getattr(result, key)
        for key in ("weights", "path", "dataset", "parent", "samples", "train_loss", "validation_loss")
    }
    _tell(ledger, spec, EventType.TRAINING_COMPLETED, {**payload, "job_id": job_id})


def record_gauntlet(home: Home, spec: GauntletSpec, result: GauntletResult, pairs: list[GamePair]) -> None:
    """The report, and the evaluation with every game pair, which promotion asks for."""
    ledger = open_ledger(home)
    nets = [(spec.candidate, "candidate")] + ([] if spec.previous is None else [(spec.previous, "previous")])
    ledger.record_artifact(
        result.report,
        "gauntlet_report",
        result.path,
        home.resolve(result.path).stat().st_size,
        spec.config,
        spec.generation,
        parents=nets,
        meta={"verdict": result.verdict.value},
        token=spec.token,
    )
    ledger.record_evaluation(
        result.report,
        config=spec.config,
        generation=spec.generation,
        candidate=spec.candidate,
        previous=spec.previous,
        gate_version=result.gate_version,
        verdict=result.verdict,
        reason=result.reason,
        opponents=[one.model_dump(mode="json") for one in result.opponents],
        pairs=pairs,
        token=spec.token,
    )
    payload = {
        "candidate": result.candidate,
        "report": result.report,
        "verdict": result.verdict,
        "reason": result.reason,
        "gate_version": result.gate_version,
    }
    _tell(ledger, spec, EventType.EVALUATION_COMPLETED, payload)
