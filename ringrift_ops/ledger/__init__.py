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
from ringrift_ops.ledger.events import EventType, InvalidEventError
from ringrift_ops.ledger.generations import derived_seed, generation_key, seed_of
from ringrift_ops.ledger.hosts import NoFreeHostError
from ringrift_ops.ledger.leases import MissingReasonError, generation_lease
from ringrift_ops.ledger.ledger import Ledger
from ringrift_ops.ledger.records import (
    Artifact,
    Canonical,
    DeliveryRow,
    Evaluation,
    Event,
    GamePair,
    Generation,
    GenerationState,
    HostState,
    Lease,
    Lineage,
    Outcome,
    Promotion,
    Relative,
    Slot,
    StageRun,
    Waiver,
    WindowBatch,
)

__all__ = [
    "Artifact",
    "ArtifactConflictError",
    "Canonical",
    "CanonicalMovedError",
    "DeliveryRow",
    "Evaluation",
    "Event",
    "EventType",
    "GamePair",
    "Generation",
    "GenerationState",
    "HostState",
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
    "NoFreeHostError",
    "NotALedgerError",
    "Outcome",
    "Promotion",
    "Relative",
    "Slot",
    "StageRun",
    "StaleTokenError",
    "UnknownArtifactError",
    "UnknownGenerationError",
    "Waiver",
    "WindowBatch",
    "derived_seed",
    "generation_key",
    "generation_lease",
    "seed_of",
]
