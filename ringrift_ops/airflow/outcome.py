"""What a generation has come to, by its stages alone; and how it lost its lease, where it did."""

from __future__ import annotations

from collections.abc import Sequence

from ringrift_ops.ledger import EventType, Generation, Ledger, Outcome, StageRun
from ringrift_ops.stages.specs import Stage, Verdict


def outcome_of(runs: Sequence[StageRun], asked: Sequence[Stage]) -> tuple[Outcome, str]:
    """Return the outcome and its reason when nothing more is done; ``asked``: the stages of the run."""
    failed = [run for run in runs if run.state == "failed"]
    for run in failed:
        error = run.error or "no reason given"
        if run.stage == Stage.GAUNTLET and error.startswith(Verdict.NO_EVIDENCE):
            return Outcome.NO_EVIDENCE, error.partition(": ")[2]
        return Outcome.ERROR, f"{run.stage}: {error}"
    done = {run.stage: run for run in runs if run.state == "done"}
    judged = done.get(Stage.GAUNTLET)
    if judged is not None and judged.result is not None and judged.result["verdict"] == Verdict.FAIL:
        return Outcome.FAIL, str(judged.result["reason"])
    promoted = done.get(Stage.PROMOTE)
    kept_back = promoted is not None and promoted.result is not None and not promoted.result["promoted"]
    missing = [stage.value for stage in asked if stage.value not in done]
    if missing and not (kept_back and missing == [Stage.DISTRIBUTE.value]):
        return Outcome.ERROR, f"its run ended before {missing[0]} was done"
    if judged is not None and judged.result is not None:
        return Outcome.PASS, str(judged.result["reason"])
    return Outcome.PARTIAL, f"asked for {', '.join(asked)} only"


def outcome_without_lease(
    ledger: Ledger, generation: Generation, runs: Sequence[StageRun], asked: Sequence[Stage]
) -> tuple[Outcome, str]:
    """Return the same of a generation that has lost its lease; none ``asked``: its run was given up meanwhile."""
    outcome, reason = outcome_of(runs, asked) if asked else (Outcome.ERROR, "its run was given up")
    if outcome is not Outcome.ERROR:
        return outcome, reason
    told = ledger.events(types=[EventType.LEASE_GRANTED, EventType.LEASE_FORCED], generation=generation.id, limit=1)
    if told and told[0].type == EventType.LEASE_FORCED:
        return outcome, f"{reason}; its lease was broken by {told[0].payload['actor']}: {told[0].payload['reason']}"
    return outcome, f"{reason}; its lease had run out"
