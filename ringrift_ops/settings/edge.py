"""How hosts of role edge and their leader hear of each other."""

from __future__ import annotations

from pydantic import Field

from ringrift_ops.settings.checks import Row


class EdgeRules(Row):
    """Seconds unless said otherwise."""

    beat_seconds: float = Field(default=5.0, description="between two signs of life of a worker, or reports of a job")
    silent_seconds: float = Field(default=60.0, description="a worker not heard of for so long is away")
    orphan_seconds: float = Field(default=180.0, description="a job without reports, whose worker is heard of, is lost")
    clock_seconds: float = Field(default=20.0, description="largest difference of the clocks: tokens live a minute")
    answer_seconds: float = Field(default=60.0, description="for an answer of the leader")
    patience_seconds: float = Field(default=600.0, description="for a leader that is away before a task gives up")
    net_again_seconds: float = Field(default=300.0, description="before a net that a host could not take is sent again")
    block: int = Field(default=1 << 20, description="bytes per read or write of a file transfer")


EDGE = EdgeRules()
