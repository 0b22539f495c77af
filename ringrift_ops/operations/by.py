"""Who asks for a change, why, and through which door."""

from __future__ import annotations

import getpass
import socket
from dataclasses import dataclass
from typing import Any

from ringrift_ops.ledger import AuditRow, Ledger, MissingReasonError

NOT_GIVEN = "not given"
"""The reason of a change that needs none."""


@dataclass(frozen=True)
class By:
    """The asker. ``door``: cli, python, http or airflow."""

    actor: str
    reason: str
    door: str

    @classmethod
    def here(cls, reason: str, door: str) -> By:
        """Return the user of this process on this machine."""
        return cls(f"{getpass.getuser()}@{socket.gethostname()}", reason.strip(), door)

    def audited(self, ledger: Ledger, action: str, config: str | None, **detail: Any) -> AuditRow:
        """Write the audit row of a change that is about to be made."""
        return ledger.record_audit(
            action, actor=self.actor, door=self.door, config=config, reason=self.reason or NOT_GIVEN, detail=detail
        )

    def needs_reason(self, what: str) -> None:
        """Raise :class:`MissingReasonError` unless the asker says why."""
        if not self.reason:
            raise MissingReasonError(f"{what} needs a reason: say why with --reason")
