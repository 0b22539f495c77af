"""Which section of the runbook pages is about what: every cause and alert that has one worked through there."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ringrift_ops.home import project_folder
from ringrift_ops.operations.alerts import Alert, Rule

FOLDER = "docs/runbooks"

OF_CAUSES: Mapping[str, str] = {
    "no_games": "pipeline-stage-failures.md#export-finds-no-games",
    "parity_failed": "first-day.md#failed-parity",
    "corrupt_dataset": "training-failures.md#the-dataset-is-damaged",
    "no_dataset": "training-failures.md#the-dataset-is-damaged",
    "too_few_games": "training-loop-stalled.md#too-few-games",
    "memory": "first-day.md#out-of-memory",
    "diverged": "training-failures.md#the-loss-diverges",
    "corrupt_checkpoint": "first-day.md#a-corrupt-checkpoint",
    "wrong_settings": "training-failures.md#before-a-training",
    "hung": "training-loop-stalled.md#a-training-stands-still",
    "below_threshold": "model-promotion.md#the-gauntlet-said-no",
    "wrong_model": "model-promotion.md#links-lead-elsewhere",
    "distribution_stuck": "model-promotion.md#distribution-is-stuck",
    "disk_full": "first-day.md#a-full-disk",
    "refused": "pipeline-orchestrator.md#nobody-listens-at-the-leader",
    "lock_held": "first-day.md#a-held-lock",
    "cooldown": "training-loop-stalled.md#the-cooldown-runs",
    "breaker_open": "pipeline-stage-failures.md#a-breaker-is-open",
}
"""By cause. The others have their section of diagnosis.md alone."""

OF_ALERTS: Mapping[Rule, str] = {
    Rule.STAGE_FAILURES: "pipeline-stage-failures.md#where-everything-stands",
    Rule.CIRCUIT_BREAKER_OPENS: "pipeline-stage-failures.md#a-breaker-is-open",
    Rule.PIPELINE_STALL: "training-loop-stalled.md#is-it-stalled",
    Rule.JOB_QUEUED: "training-loop-stalled.md#is-it-stalled",
    Rule.UNEXPECTED_STATUS: "training-failures.md#look-at-a-training",
    Rule.RESOURCE_USE: "first-day.md#out-of-memory",
    Rule.LOSS_NOT_DECREASING: "training-failures.md#the-loss-diverges",
    Rule.EPOCH_TIMEOUT: "training-failures.md#look-at-a-training",
    Rule.STAGE_STALE: "training-loop-stalled.md#is-it-stalled",
}

_FULL_DISK = "first-day.md#a-full-disk"


def page_of(alert: Alert) -> str:
    """Return the section about an alert."""
    full = alert.rule is Rule.RESOURCE_USE and alert.subject.startswith("disk")
    return f"{FOLDER}/{_FULL_DISK if full else OF_ALERTS[alert.rule]}"


def anchor(title: str) -> str:
    """Return what a heading is linked by."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def text_of(place: str) -> str:
    """Return a section, ``page.md#anchor``, as it is written, without its notes for the tests; '' without the page."""
    name, _, wanted = place.partition("#")
    page = project_folder() / FOLDER / name
    if not page.exists():
        return ""
    lines: list[str] = []
    inside = fenced = False
    for line in page.read_text(encoding="utf-8").splitlines():
        fenced ^= line.startswith("```")
        if not fenced and line.startswith("#"):
            inside = anchor(line.lstrip("# ")) == wanted
        if inside and not line.startswith("<!--"):
            lines.append(line)
    return "\n".join(lines).strip() + "\n" if lines else ""
