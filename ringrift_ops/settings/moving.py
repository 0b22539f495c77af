"""When a part of self-play that crawls on a slow host is begun a second time on another."""

from __future__ import annotations

from pydantic import Field

from ringrift_ops.settings.checks import Row


class MovingRules(Row):
    """Nothing moves before all parts have begun, nor to a host whose rate nobody has measured. Seconds but for one."""

    least_seconds: float = Field(default=120.0, description="that a part has run, and as long as the other host needs")
    factor: float = Field(default=3.0, gt=1.0, description="how many times as long the rest takes as all of it there")
    gain_seconds: float = Field(default=120.0, description="by which it is over sooner there, at least")
    look_seconds: float = Field(default=10.0, description="between two looks whether it crawls")


MOVING = MovingRules()
