"""Stage six: moves the canonical pointer, on evidence only. Nothing else in the platform does."""

from __future__ import annotations

from ringrift_ops.errors import NoDataError
from ringrift_ops.home import Home
from ringrift_ops.ledger import EventType
from ringrift_ops.stages.heartbeat import Heartbeat, Report
from ringrift_ops.stages.links import repair_links
from ringrift_ops.stages.recording import open_ledger
from ringrift_ops.stages.specs import PromoteResult, PromoteSpec, Stage, Verdict


class NoEvaluationError(NoDataError):
    """A promotion is asked for on a report that the ledger does not know, or that is about another net."""


def run(spec: PromoteSpec, report: Report) -> PromoteResult:
    """Make the candidate canonical if its evaluation passed, by compare-and-swap under the spec's token.

    A verdict that is not PASS, and a setting that keeps promotions back, are answers, not errors:
    they are recorded as MODEL_PROMOTION_FAILED. Promoting what is canonical already changes nothing.
    Raises UnknownArtifactError, StaleTokenError, and CanonicalMovedError when the evidence was
    gathered against a net that is no longer in force.
    """
    home = Home.find()
    ledger = open_ledger(home)
    evaluation = ledger.evaluation_of(spec.report)
    if evaluation is None:
        raise NoEvaluationError(
            f"the ledger knows no evaluation with report {spec.report[:12]}; run the gauntlet of {spec.candidate[:12]}"
        )
    if (evaluation.config, evaluation.candidate) != (spec.config, spec.candidate):
        raise NoEvaluationError(
            f"report {spec.report[:12]} is about {evaluation.candidate[:12]} of {evaluation.config}, not about "
            f"{spec.candidate[:12]} of {spec.config}; name that net's own report, or leave --report out"
        )
    current = ledger.canonical(spec.config)
    before = None if current is None else current.sha
    if before == spec.candidate:
        repair_links(home, ledger)
        return PromoteResult(promoted=True, canonical=before, previous=evaluation.previous, reason="already canonical")
    refused = None
    if evaluation.verdict != Verdict.PASS:
        refused = f"{evaluation.verdict}: {evaluation.reason}"
    elif not spec.auto_promote:
        refused = "RINGRIFT_AUTO_PROMOTE is off; promote it by hand"
    if refused is not None:
        payload = {
            "candidate": spec.candidate,
            "report": spec.report,
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
    repair_links(home, ledger)
    report(Heartbeat(stage=Stage.PROMOTE, phase="promoted", done=1, total=1, unit="nets"))
    return PromoteResult(promoted=True, canonical=spec.candidate, previous=before, reason=evaluation.reason)
