"""The platform's own database: generations, leases, artifacts, evaluations, promotions, events.

``Ledger.open()`` is the door; rows come back as the frozen classes of ``records``.
"""

from ringrift_ops.ledger.errors import (
    ArtifactConflictError,
    CanonicalMovedError,
    LeaseHeldError,
    LedgerTooNewError,
    LedgerTooOldError,
    LedgerUnavailableError,
    NoEvidenceForPromotionError,
    NotALedgerError,
    StaleTokenError,
    UnknownArtifactError,
    UnknownGenerationError,
)
from ringrift_ops.ledger.events import FAILURES, EventType, InvalidEventError
from ringrift_ops.ledger.generations import derived_seed, generation_key, seed_of
from ringrift_ops.ledger.leases import MissingReasonError, generation_lease
from ringrift_ops.ledger.ledger import Ledger
from ringrift_ops.ledger.records import (
    Artifact,
    AuditRow,
    Breaker,
    Canonical,
    Condition,
    DeliveryRow,
    Evaluation,
    Event,
    GamePair,
    Generation,
    GenerationState,
    Lease,
    Lineage,
    Outcome,
    Promotion,
    Relative,
    StageRun,
    Wait,
    Waiver,
    WindowBatch,
)
from ringrift_ops.ledger.standing import ConfigStanding

__all__ = [
    "FAILURES",
    "Artifact",
    "ArtifactConflictError",
    "AuditRow",
    "Breaker",
    "Canonical",
    "CanonicalMovedError",
    "Condition",
    "ConfigStanding",
    "DeliveryRow",
    "Evaluation",
    "Event",
    "EventType",
    "GamePair",
    "Generation",
    "GenerationState",
    "InvalidEventError",
    "Lease",
    "LeaseHeldError",
    "Ledger",
    "LedgerTooNewError",
    "LedgerTooOldError",
    "LedgerUnavailableError",
    "Lineage",
    "MissingReasonError",
    "NoEvidenceForPromotionError",
    "NotALedgerError",
    "Outcome",
    "Promotion",
    "Relative",
    "StageRun",
    "StaleTokenError",
    "UnknownArtifactError",
    "UnknownGenerationError",
    "Wait",
    "Waiver",
    "WindowBatch",
    "derived_seed",
    "generation_key",
    "generation_lease",
    "seed_of",
]
