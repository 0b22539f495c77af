"""What the ledger refuses, by name."""

from __future__ import annotations

from datetime import datetime

from ringrift_ops.errors import GateError, InfrastructureError, NoDataError, UsageError


class LedgerUnavailableError(InfrastructureError):
    """The database cannot be reached, is locked for longer than the timeout, full or read-only."""


class LedgerTooNewError(UsageError):
    """The ledger was written by a newer version of this platform."""


class LedgerTooOldError(UsageError):
    """The ledger (on a server) has not been migrated to this version yet."""


class NotALedgerError(UsageError):
    """The file or database holds something else."""


class UnknownGenerationError(UsageError):
    """No generation of that id."""


class UnknownArtifactError(NoDataError):
    """A sha256 that no artifact was recorded under."""


class ArtifactConflictError(UsageError):
    """The same sha256 was recorded before as something else."""


class StaleTokenError(GateError):
    """An effect carries a fencing token that is not (or no longer) the one in force."""

    def __init__(self, lease: str, token: int, current: int, holder: str | None) -> None:
        whose = f"held by {holder} with token {current}" if holder else f"held by nobody (last token {current})"
        super().__init__(
            f"lease {lease}: token {token} is not in force, it is {whose}; "
            "this result came too late and is refused; start the work again under a new lease"
        )
        self.lease, self.token, self.current, self.holder = lease, token, current, holder


class LeaseHeldError(GateError):
    """A second writer: somebody else holds the lease."""

    def __init__(self, lease: str, holder: str, until: datetime) -> None:
        super().__init__(
            f"lease {lease} is held by {holder} until {until.isoformat(timespec='seconds')}; "
            "wait for it, or release it by force with a reason"
        )
        self.lease, self.holder, self.until = lease, holder, until


class CanonicalMovedError(GateError):
    """The canonical net is not the one that the caller compared with."""


class NoEvidenceForPromotionError(GateError):
    """A promotion without a PASS of that net against the canonical it would replace."""


class NeverInForceError(GateError):
    """A config is to go back to a net that was never in force for it."""


class PoisonedArtifactError(GateError):
    """What was backed out, or made from it, is to be used."""


class UnknownIncidentError(NoDataError):
    """No incident of that number."""


class ClosedIncidentError(GateError):
    """An incident that is closed is to be answered or changed."""
