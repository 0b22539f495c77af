"""Limits of the HTTP door."""

from __future__ import annotations

from pydantic import Field

from ringrift_ops.settings.checks import Row


class WebRules(Row):
    """What one request may be and take; how many a user may make is a setting, ``http_rate``."""

    body_bytes: int = Field(default=64 * 1024, description="longest body of a request; longer ones are 413")
    page: int = Field(default=100, description="rows of a listing unless asked for fewer or more")
    page_most: int = Field(default=500, description="rows of a listing at most")
    tail: int = Field(default=100, description="lines of a log unless asked for fewer or more")
    tail_most: int = Field(default=10_000, description="lines of a log at most")
    threads: int = Field(
        default=8,
        description="requests of ours at a time; apart from Airflow's 40 threads, which requests of ours wait for",
    )
    patience_seconds: float = Field(default=20.0, description="for how long Airflow is asked again while it is busy")
    health_seconds: float = Field(default=5.0, description="how old the answer of /health without a login may be")
    refresh_seconds: int = Field(default=15, description="between two loads of the status page")
    reason: int = Field(default=500, description="characters of a reason at most")


WEB = WebRules()
