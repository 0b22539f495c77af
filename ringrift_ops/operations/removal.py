"""What a retention may remove, and what it keeps and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ringrift_ops.stages.specs import Sha256


@dataclass(frozen=True)
class Removal:
    """Something that may go. ``bytes`` on the disk; ``why`` it may."""

    kind: str
    path: Path
    bytes: int
    why: str
    sha: Sha256 | None = None


@dataclass
class Tally:
    """A plan in the making."""

    removals: list[Removal] = field(default_factory=list)
    kept: dict[str, Counter[str]] = field(default_factory=dict)

    def keep(self, kind: str, why: str) -> None:
        self.kept.setdefault(kind, Counter())[why] += 1


def size_of(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
