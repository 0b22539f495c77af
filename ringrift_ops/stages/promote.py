"""Stage six: moves the canonical pointer, on evidence only. Nothing else in the platform does."""

from __future__ import annotations

from typing import Literal

from ringrift_ops.errors import GateError, NoDataError
from ringrift_ops.home import Home
from ringrift_ops.ledger import EventType, Ledger, Promotion
from ringrift_ops.stages.heartbeat import Heartbeat, Report
from ringrift_ops.stages.links import WEIGHTS_SUFFIX, repair_links
from ringrift_ops.stages.recording import open_ledger
from ringrift_ops.stages.specs import PromoteResult, PromoteSpec, Sha256, Stage, Verdict
from ringrift_ops.store import Store


class NoEvaluationError(NoDataError):
    """A promotion is asked for on a report that the ledger does not know, or that is about another net."""


class GauntletWaiverError(GateError):
    """A net is to be promoted without a PASS, and no waiver in force allows it (R48)."""


def run(spec: PromoteSpec, report: Report) -> PromoteResult:
    """Make the candidate canonical if its evaluation passed, by compare-and-swap under the spec's token.

    A verdict that is not PASS, and a setting that keeps promotions back, are answers, not errors:
    they are recorded as MODEL_PROMOTION_FAILED. Promoting what is canonical already changes nothing.
    Raises UnknownArtifactError, StaleTokenError, and CanonicalMovedError when the evidence was
    gathered against a net that is no longer in force.
    """
    home = Home.find()
    ledger = open_ledger(home)
    if spec.waiver is not None:
        return _forced(home, ledger, spec, spec.waiver)
    evaluation = None if spec.report is None else ledger.evaluation_of(spec.report)
    if evaluation is None:
        raise NoEvaluationError(
            f"the ledger knows no evaluation with report {(spec.report or 'none')[:12]}; "
            f"run the gauntlet of {spec.candidate[:12]}"
        )
    if (evaluation.config, evaluation.candidate) != (spec.config, spec.candidate):
        raise NoEvaluationError(
            f"report {evaluation.report[:12]} is about {evaluation.candidate[:12]} of {evaluation.config}, not about "
            f"{spec.candidate[:12]} of {spec.config}; name that net's own report, or leave --report out"
        )
    current = ledger.canonical(spec.config)
    before = None if current is None else current.sha
    if before == spec.candidate:
        repair_links(home, ledger, [spec.config])
        return PromoteResult(promoted=True, canonical=before, previous=evaluation.previous, reason="already canonical")
    refused = None
    if evaluation.verdict != Verdict.PASS:
        refused = f"{evaluation.verdict}: {evaluation.reason}"
    elif not spec.auto_promote:
        refused = "RINGRIFT_AUTO_PROMOTE is off; promote it by hand"
    if refused is not None:
        payload = {
            "candidate": spec.candidate,
            "report": evaluation.report,
            "verdict": evaluation.verdict,
            "reason": refused,
        }
        ledger.record_event(EventType.MODEL_PROMOTION_FAILED, spec.config, spec.generation, payload)
        return PromoteResult(promoted=False, canonical=before, previous=before, reason=refused)
    ledger.compare_and_swap_canonical(
        spec.config,
        before,
        spec.candidate,
        spec.token,
        generation=spec.generation,
        reason=evaluation.reason,
        actor="pipeline",
        evaluation=evaluation.id,
    )
    repair_links(home, ledger, [spec.config])
    report(Heartbeat(stage=Stage.PROMOTE, phase="promoted", done=1, total=1, unit="nets"))
    return PromoteResult(promoted=True, canonical=spec.candidate, previous=before, reason=evaluation.reason)


def _forced(home: Home, ledger: Ledger, spec: PromoteSpec, waiver: int) -> PromoteResult:
    """Make the candidate canonical under a gauntlet waiver: without a PASS, but not without loading it strictly."""
    allowed = next((one for one in ledger.waivers("gauntlet", config=spec.config) if one.id == waiver), None)
    if allowed is None:
        raise GauntletWaiverError(
            f"{spec.config}: gauntlet waiver {waiver} is not in force (it has expired, or is another config's); "
            "run the gauntlet, or force again with a reason"
        )
    from ringrift_ops.network.weights import load_network

    load_network(Store(home).get(spec.candidate, WEIGHTS_SUFFIX, verify=True), spec.config)
    current = ledger.canonical(spec.config)
    before = None if current is None else current.sha
    reason = f"gauntlet waived: {allowed.reason}"
    if before != spec.candidate:
        ledger.compare_and_swap_canonical(
            spec.config, before, spec.candidate, spec.token,
            generation=spec.generation, reason=reason, actor=allowed.actor, kind="forced",
        )  # fmt: skip
    repair_links(home, ledger, [spec.config])
    return PromoteResult(promoted=True, canonical=spec.candidate, previous=before, reason=reason)


def roll_back(
    home: Home,
    ledger: Ledger,
    config: str,
    expected: Sha256,
    to: Sha256,
    token: int,
    *,
    reason: str,
    actor: str,
    kind: Literal["rollback", "back_out"] = "rollback",
) -> Promotion:
    """Move the canonical pointer from ``expected`` back to ``to``, whose bytes are verified first, and the links.

    Raises MissingObjectError, DamagedObjectError, StaleTokenError, CanonicalMovedError, ArtifactConflictError,
    NeverInForceError.
    """
    Store(home).get(to, WEIGHTS_SUFFIX, verify=True)
    moved = ledger.compare_and_swap_canonical(
        config, expected, to, token, generation=None, reason=reason, actor=actor, kind=kind
    )
    repair_links(home, ledger, [config])
    return moved
