"""Which code this is, by its bytes: a host may work only with the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import ringrift_ops

PACKAGE = Path(__file__).resolve().parents[1]

PARTS = {
    "engine": ("rules", "parity"),
    "encoder": ("network",),
    "player": ("players",),
}
"""What a difference is called by, and the rooms it lies in."""


@cache
def versions() -> dict[str, str]:
    """Return {"package": version, "code": digest of all sources, and one digest per name of ``PARTS``}.

    A digest is the first 12 hex digits of the sha256 over names and bytes of the Python and TypeScript sources.
    """
    parts = {name: _digest(PACKAGE / room for room in rooms) for name, rooms in PARTS.items()}
    return {"package": ringrift_ops.__version__, "code": _digest([PACKAGE]), **parts}


def difference(mine: dict[str, str], theirs: dict[str, str]) -> str | None:
    """Return what differs in words, None when both are the same code."""
    if mine["code"] == theirs.get("code"):
        return None
    named = [name for name in PARTS if mine[name] != theirs.get(name)]
    what = " and ".join(named) if named else "code outside the engine"
    return (
        f"another {what}: {theirs.get('package', 'unknown')} ({theirs.get('code', 'unknown')}), "
        f"here {mine['package']} ({mine['code']})"
    )


def _digest(folders: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    paths = [path for folder in folders for suffix in ("py", "ts") for path in folder.rglob(f"*.{suffix}")]
    for path in sorted(paths):
        if "node_modules" not in path.parts:
            digest.update(str(path.relative_to(PACKAGE)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]
