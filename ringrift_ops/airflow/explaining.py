"""The last lines of a failed task's log: its causes, the commands that mend them, and the sections about them."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from ringrift_ops.airflow.operators import StageTask

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger("airflow.task")


def explain(context: Context) -> None:
    """Log what `ringrift diagnose` says of the stage that has just failed; for a task's failure and retry callbacks."""
    from ringrift_ops.operations.diagnosing import evidence_of
    from ringrift_ops.operations.diagnosis import diagnose
    from ringrift_ops.operations.traces import Evidence

    task, error = context["task"], context.get("exception")
    if not isinstance(task, StageTask):
        return
    work = task.work(context)
    runs = work.ledger.stage_runs(work.generation.id, task.stage.value)
    run = next((one for one in runs if one.shard == task.shard and one.job_id), None)
    evidence = Evidence("", task.stage.value, config=task.config)
    if run is not None:
        evidence = evidence_of(work.hosting, task.config, run)
    if error is not None:
        kind, said = evidence.error or type(error).__name__, evidence.message or str(error)
        evidence = replace(evidence, state="failed", error=kind, message=said)
    for cause in diagnose(evidence):
        log.error("%s (%.0f%%): %s; fix: %s", cause.cause, 100 * cause.confidence, cause.title, cause.fix)
        log.error("see %s, or: ringrift runbook %s", cause.page, cause.cause.replace("_", "-"))
