"""When a job that runs shows no sign of life."""

from __future__ import annotations

from datetime import UTC, datetime

from ringrift_ops.hosts.jobs import JobState, JobStatus
from ringrift_ops.settings import OPERATIONS, ProfileRow


def is_stalled(status: JobStatus, profile: ProfileRow, now: datetime | None = None) -> bool:
    """Return whether a running job has been silent for too long; before it has done anything it may take longer."""
    if status.state is not JobState.RUNNING or status.started is None:
        return False
    age = status.age  # by the clock of its own machine, which may be a day off
    if age is None:
        age = ((now or datetime.now(UTC)) - datetime.fromisoformat(status.started)).total_seconds()
    begun = status.heartbeat is not None and bool(status.heartbeat.get("done"))
    if status.heartbeat_age is None or status.heartbeat_age >= age or not begun:
        return age > profile.stall_seconds + OPERATIONS.begin_seconds
    return status.heartbeat_age > profile.stall_seconds
