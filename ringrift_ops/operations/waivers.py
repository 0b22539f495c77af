"""Waivers: recorded exceptions with a reason, an owner and an end (R14, R48)."""

from __future__ import annotations

from typing import Literal

from ringrift_ops.ledger import Ledger, MissingReasonError, Waiver
from ringrift_ops.operations.by import By
from ringrift_ops.settings import Settings

WaiverKind = Literal["parity", "gauntlet"]

VARIABLES: dict[WaiverKind, str] = {"parity": "RINGRIFT_SKIP_PARITY", "gauntlet": "RINGRIFT_SKIP_GAUNTLET"}
REASON_VARIABLE = "RINGRIFT_WAIVER_REASON"


def waiver(ledger: Ledger, kind: WaiverKind, config: str, by: By) -> Waiver:
    """Return the asker's waiver in force for this reason, recorded and audited now when there is none.

    It ends by itself after ``LEASES.waiver_seconds``. Raises :class:`MissingReasonError`.
    """
    by.needs_reason(f"a waiver of {kind}")
    for known in ledger.waivers(kind, config=config):
        if (known.config, known.actor, known.reason) == (config, by.actor, by.reason):
            return known
    by.audited(ledger, f"waive {kind}", config)
    return ledger.record_waiver(kind, reason=by.reason, actor=by.actor, config=config)


def waiver_asked_for(ledger: Ledger, settings: Settings, kind: WaiverKind, config: str, door: str) -> Waiver | None:
    """Return the waiver that the environment asks for (``RINGRIFT_SKIP_PARITY=1`` and its like), None when it does not.

    Raises :class:`MissingReasonError` without ``RINGRIFT_WAIVER_REASON``.
    """
    if not (settings.skip_parity if kind == "parity" else settings.skip_gauntlet):
        return None
    if not settings.waiver_reason:
        raise MissingReasonError(
            f"{VARIABLES[kind]}=1 records a waiver and needs a reason: set {REASON_VARIABLE}, or leave it out"
        )
    return waiver(ledger, kind, config, By.here(settings.waiver_reason, door))
