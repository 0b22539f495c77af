"""Numba settings of the rules, and a cache folder that forgets nothing it should not.

Numba's on-disk cache keys a function by its own file only: after an edit of a callee the caller's
cached machine code still holds the old callee, or the old value of a constant. So the folder's name
carries a hash of every file that machine code comes from: another source, another folder.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

PACKAGE = Path(__file__).resolve().parent.parent
CONSTANTS = ("rules/boards.py", "rules/layout.py")
"""Files without compiled functions whose numbers are in machine code; a test finds any that is missing here."""
COMPILERS = ("rules/compile.py", "rules/dispatch.py")
_COMPILES = re.compile(rb"^@(jit|jit_allocating|jit_once|intrinsic|overload)\b", re.MULTILINE)


def compiled_files(package: Path = PACKAGE) -> list[Path]:
    """The files that machine code comes from: compiled functions, the constants in them, and how they are compiled."""
    named = {package / name for name in (*CONSTANTS, *COMPILERS)}
    return [path for path in sorted(package.glob("*/*.py")) if path in named or _COMPILES.search(path.read_bytes())]


def source_digest(package: Path = PACKAGE) -> str:
    """First 16 hex digits of the SHA-256 over ``compiled_files``."""
    digest = hashlib.sha256()
    for path in compiled_files(package):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def cache_folder() -> Path:
    """Where compiled code lies: ``RINGRIFT_NUMBA_CACHE`` or the home's ``numba/``, then the digest."""
    base = os.environ.get("RINGRIFT_NUMBA_CACHE")
    if base is None:
        home = os.environ.get("RINGRIFT_HOME")
        base = str(Path(home) / "numba") if home else str(PACKAGE.parent / ".ringrift" / "numba")
    return Path(base) / source_digest()


# Numba reads NUMBA_CACHE_DIR when it is imported; this module is imported before numba everywhere.
os.environ["NUMBA_CACHE_DIR"] = str(cache_folder())

import numba  # noqa: E402  (must come after the variable above)

numba.config.CACHE_DIR = os.environ["NUMBA_CACHE_DIR"]

F = TypeVar("F", bound=Callable[..., Any])

if TYPE_CHECKING:

    def jit(function: F) -> F:
        """Compile in nopython mode; cached on disk where Python calls it, copied into compiled callers."""
        return function

    def jit_allocating(function: F) -> F:
        """As ``jit``, for a function that makes arrays or returns them; all others do without counted references."""
        return function

    def jit_once(function: F) -> F:
        """As ``jit``, but compiled callers call the one machine code instead of copying it."""
        return function

else:
    from ringrift_ops.rules.dispatch import jit, jit_allocating, jit_once  # noqa: F401
