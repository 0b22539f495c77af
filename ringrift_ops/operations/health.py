"""Healthy or not, and why not (R6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ringrift_ops.operations.idle import Why
from ringrift_ops.operations.status import ConfigStatus, Status


@dataclass(frozen=True)
class Health:
    """``details``: active_count, stalled_count, waiting_count, and the configs by name."""

    is_healthy: bool
    reasons: list[str]
    details: dict[str, Any]


def health(found: Status) -> Health:
    """Return whether all that should go on does."""
    active = [one.config for one in found.configs if one.state == "running"]
    stalled = {one.config: why for one in found.configs if (why := _stalled(one)) is not None}
    reasons = [f"{config}: {why}" for config, why in stalled.items()]
    reasons += [one.lost for one in found.waiting if one.lost is not None]
    if found.airflow is None:
        reasons.append("the platform does not run: `ringrift up`")
    else:
        reasons += [f"{name} is {found.airflow.components[name]}" for name in found.airflow.ill]
    if found.disk_pressure is not None:
        reasons.append(found.disk_pressure)
    details = {
        "active_count": len(active),
        "stalled_count": len(stalled),
        "waiting_count": sum(one.waiting for one in found.configs),
        "active": active,
        "stalled": stalled,
        "components": {} if found.airflow is None else dict(found.airflow.components),
    }
    return Health(not reasons, reasons, details)


def _stalled(one: ConfigStatus) -> str | None:
    """Return why a config under way does not go on; None when it does, or when nothing is under way."""
    if one.state not in ("running", "waiting"):
        return None
    whys = [cell.idle for cell in one.stages if cell.idle is not None and cell.status in ("running", "waiting")]
    return next((why.reason for why in whys if why.why in (Why.STALLED, Why.NOT_RUNNING)), None)
