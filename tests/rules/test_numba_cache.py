"""Numba's cache is named by the hash of every compiled source file: an edited callee reaches its caller."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ringrift_ops.rules.compile import PACKAGE, source_digest

CALLEE = '''"""Edited by the test."""

from ringrift_ops.rules.compile import jit


@jit
def callee(x):
    """One more."""
    return x + 1
'''
CALLER = '''"""Stays as it is."""

from ringrift_ops.rules.callee import callee
from ringrift_ops.rules.compile import jit


@jit
def caller(x):
    """What the callee says."""
    return callee(x)
'''


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A small package with the real ``compile.py`` in it."""
    rules = tmp_path / "ringrift_ops" / "rules"
    rules.mkdir(parents=True)
    for folder in (rules, rules.parent):
        (folder / "__init__.py").touch()
    shutil.copy(PACKAGE / "rules" / "compile.py", rules)
    (rules / "callee.py").write_text(CALLEE)
    (rules / "caller.py").write_text(CALLER)
    return tmp_path


def _call(folder: Path) -> tuple[int, int]:
    """(value of caller(1), how many functions came from the cache), in a fresh process."""
    script = "from ringrift_ops.rules.caller import caller\nprint(caller(1), sum(caller.stats.cache_hits.values()))"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("RINGRIFT", "NUMBA"))},
        "PYTHONPATH": str(folder),
        "RINGRIFT_NUMBA_CACHE": str(folder / "cache"),
    }
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, env=environment, capture_output=True, text=True,
                          check=True, timeout=120)  # fmt: skip
    value, hits = done.stdout.split()
    return int(value), int(hits)


def test_an_edited_callee_in_another_file_changes_its_caller(copied: Path) -> None:
    assert _call(copied) == (2, 0)
    assert _call(copied) == (2, 1)
    (copied / "ringrift_ops" / "rules" / "callee.py").write_text(CALLEE.replace("x + 1", "x + 100"))
    assert _call(copied) == (101, 0)


def test_the_digest_covers_every_compiled_room(copied: Path) -> None:
    package = copied / "ringrift_ops"
    seen = {source_digest(package)}
    for room in ("rules", "players", "network"):
        (package / room).mkdir(exist_ok=True)
        (package / room / "new.py").write_text("# another file\n")
        seen.add(source_digest(package))
    assert len(seen) == 4
