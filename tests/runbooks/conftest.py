"""What the runbook pages need: the platform they run on, and the option that writes real output into them."""

from __future__ import annotations

from tests.runbooks.ground import ground

__all__ = ["ground"]
