"""Disk pressure stops what fills the disk, with a reason, and deletes nothing (F18)."""

from __future__ import annotations

from ringrift_ops.errors import GateError
from ringrift_ops.home import Home
from ringrift_ops.operations.surroundings import Machine
from ringrift_ops.settings import ProfileRow
from ringrift_ops.stages.specs import Stage

PRODUCERS = (Stage.SELFPLAY, Stage.EXPORT, Stage.TRAIN)
"""The stages that fill the disk; the others may go on."""


class DiskPressureError(GateError):
    """A stage that fills the disk is to start while too little of it is free."""


def pressure(machine: Machine, stage: Stage, profile: ProfileRow) -> str | None:
    """Return why ``stage`` may not start on the disk as it is, in words; None when it may."""
    if stage not in PRODUCERS or machine.disk_free >= profile.disk_free_bytes:
        return None
    return (
        f"{machine.disk_free / 1e9:.1f} GB free on {machine.name}, "
        f"{profile.disk_free_bytes / 1e9:g} GB are needed in profile {profile.name}"
    )


def admit(home: Home, config: str, stage: Stage, profile: ProfileRow) -> None:
    """Let a stage begin; raises :class:`DiskPressureError`."""
    why = pressure(Machine.here(home), stage, profile)
    if why is not None:
        raise DiskPressureError(
            f"{config}: {stage.value} is not started: {why}; "
            "nothing is deleted by itself: see `ringrift retention plan`"
        )
