"""What stages tell the ledger: artifacts with their parents, and the event people read.

A stage on a host has no ledger. There each of these writes what it was given into the job's ``effects.jsonl``, and the
controller calls the same function once the files have arrived (:func:`replay`), with what it asked for itself, the
result that it has checked, and its own fencing token: the host's word is taken for nothing but its remedies and the
pairs of a gauntlet.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pydantic import ValidationError

from ringrift_ops.errors import InfrastructureError, UsageError
from ringrift_ops.home import Home
from ringrift_ops.hosts.facts import features
from ringrift_ops.hosts.jobs import EFFECTS_VARIABLE
from ringrift_ops.ledger import EventType, GamePair, Ledger, Waiver
from ringrift_ops.settings import Settings
from ringrift_ops.stages.links import WEIGHTS_SUFFIX
from ringrift_ops.stages.specs import (
    ExportResult,
    ExportSpec,
    Frozen,
    GauntletResult,
    GauntletSpec,
    ParityResult,
    ParitySpec,
    Remedy,
    SelfplayResult,
    SelfplaySpec,
    Sha256,
    StageSpec,
    TrainResult,
    TrainSpec,
)
from ringrift_ops.store import Store

if TYPE_CHECKING:
    from ringrift_ops.network.weights import Network

Recording = TypeVar("Recording", bound=Callable[..., None])


class UnknownEffectError(InfrastructureError):
    """A host tells something that this version does not know."""


class ForeignEffectError(UsageError):
    """A host tells of something that its job does not do."""


def ledger_is_elsewhere() -> bool:
    """Return whether this process works on a host for a controller, which keeps the ledger."""
    return EFFECTS_VARIABLE in os.environ


def _effect(function: Recording) -> Recording:
    """Write the call down instead of doing it, where ``RINGRIFT_EFFECTS`` says that the ledger is elsewhere."""

    @wraps(function)
    def told(home: Home, spec: StageSpec, result: Frozen, *more: Any) -> None:
        path = os.environ.get(EFFECTS_VARIABLE)
        if path is None:
            function(home, spec, result, *more)
            return
        call = {
            "record": function.__name__,
            "result": result.model_dump(mode="json"),
            "more": [_plain(one) for one in more],
        }
        with Path(path).open("a", encoding="utf-8") as journal:
            journal.write(json.dumps(call) + "\n")
            journal.flush()
            os.fsync(journal.fileno())

    return cast(Recording, told)


def _plain(value: Any) -> Any:
    return [asdict(one) for one in value] if isinstance(value, list) else value


def replay(home: Home, effect: Mapping[str, Any], job_id: str, spec: StageSpec, result: Frozen) -> None:
    """Tell this installation's ledger what a stage on a host has written down.

    ``spec``: what the job was asked, with the token in force; ``result``: what came of it. Repeating it is harmless.
    Raises :class:`UnknownEffectError`, :class:`ForeignEffectError` and the errors of the ledger.
    """
    name = effect.get("record")
    if name not in _REPLAYED:
        raise UnknownEffectError(f"a host tells {name!r}, which this version does not know; update the host")
    function, spec_kind = _REPLAYED[str(name)]
    if not isinstance(spec, spec_kind):
        raise ForeignEffectError(f"{job_id}: its host tells {name!r}, which is not for a job of this stage to tell")
    try:
        told = Remedy.model_validate(effect["result"]) if function is record_remedy else result
        # Beyond the result there are a gauntlet's pairs, or the job's own name.
        more = [[GamePair(**one) for one in value] if isinstance(value, list) else job_id for value in effect["more"]]
    except (KeyError, TypeError, ValidationError) as error:
        raise UnknownEffectError(
            f"{job_id}: its host tells {name!r} in a form that this version does not know; update the host"
        ) from error
    function(home, spec, told, *more)


def open_ledger(home: Home) -> Ledger:
    """The ledger of this installation."""
    return Ledger.open(Settings.load(home).ledger_url)


def _tell(ledger: Ledger, spec: StageSpec, event: EventType, payload: Mapping[str, object]) -> None:
    ledger.record_event(event, spec.config, spec.generation, payload)


@_effect
def record_games(home: Home, spec: SelfplaySpec, result: SelfplayResult) -> None:
    """A batch, made with a net or without, and the machine that played it where that is another kind than this one."""
    ledger = open_ledger(home)
    other = {} if result.features in (None, features()) else {"features": result.features}
    ledger.record_artifact(
        result.batch,
        "games",
        result.path,
        home.resolve(result.path).stat().st_size,
        spec.config,
        spec.generation,
        parents=[] if spec.weights is None else [(spec.weights, "player")],
        meta={"games": result.games, "moves": result.moves, "policy_games": result.policy_games, **other},
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


@_effect
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


@_effect
def record_remedy(home: Home, spec: TrainSpec, remedy: Remedy, job_id: str) -> None:
    """What a training has mended; once it was verified, whether it helped."""
    payload: dict[str, object] = {"kind": remedy.kind, "target": job_id, "step": remedy.step}
    event = EventType.REMEDY_VERIFIED if remedy.verified else EventType.REMEDY_APPLIED
    if remedy.verified:
        checks = [one.model_dump() for one in remedy.verified]
        payload |= {"ok": all(one.ok for one in remedy.verified), "verified": checks}
    else:
        payload |= {key: getattr(remedy, key) for key in ("reason", "action", "tries", "bound")}
    _tell(open_ledger(home), spec, event, payload)


def record_net(home: Home, network: Network, path: Path) -> None:
    """A net that came from elsewhere: into the store and on record, with those of its parents that are known here."""
    ledger = open_ledger(home)
    known = {one.sha for one in ledger.artifacts(config=network.config)}
    if network.sha256 in known:
        return
    sha, stored = Store(home).put(path, WEIGHTS_SUFFIX)
    ledger.record_artifact(
        sha,
        "weights",
        str(home.relative(stored)),
        stored.stat().st_size,
        network.config,
        None,
        parents=[(one, role) for one, role in ((network.header.dataset, "dataset"), (network.header.parent, "parent"))
                 if one in known],
        meta={"family": network.family, "trained_at": network.header.trained_at},
        token=0,
    )  # fmt: skip


@_effect
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


_REPLAYED: dict[str, tuple[Callable[..., None], type[StageSpec]]] = {
    "record_games": (record_games, SelfplaySpec),
    "record_weights": (record_weights, TrainSpec),
    "record_remedy": (record_remedy, TrainSpec),
    "record_gauntlet": (record_gauntlet, GauntletSpec),
}
"""The stages that hosts do."""
