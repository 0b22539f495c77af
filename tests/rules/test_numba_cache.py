"""Numba's cache is named by the hash of every compiled source file: an edited callee reaches its caller."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringrift_ops.rules.compile import PACKAGE, compiled_files, source_digest

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
    """A small package with the real ``compile.py`` and ``dispatch.py`` in it."""
    rules = tmp_path / "ringrift_ops" / "rules"
    rules.mkdir(parents=True)
    for folder in (rules, rules.parent):
        (folder / "__init__.py").touch()
    for module in ("compile.py", "dispatch.py"):
        shutil.copy(PACKAGE / "rules" / module, rules)
    (rules / "callee.py").write_text(CALLEE)
    (rules / "caller.py").write_text(CALLER)
    return tmp_path


def _run(folder: Path, script: str, cache: str = "cache") -> str:
    """What a fresh process prints."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("RINGRIFT", "NUMBA"))},
        "PYTHONPATH": str(folder),
        "RINGRIFT_NUMBA_CACHE": str(folder / cache),
    }
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, env=environment, capture_output=True, text=True,
                          check=True, timeout=120)  # fmt: skip
    return done.stdout


def _call(folder: Path) -> tuple[int, int]:
    """(value of caller(1), how many functions came from the cache), in a fresh process."""
    script = "from ringrift_ops.rules.caller import caller\nprint(caller(1), sum(caller.stats.cache_hits.values()))"
    value, hits = _run(folder, script).split()
    return int(value), int(hits)


def test_an_edited_callee_in_another_file_changes_its_caller(copied: Path) -> None:
    assert _call(copied) == (2, 0)
    assert _call(copied) == (2, 1)
    (copied / "ringrift_ops" / "rules" / "callee.py").write_text(CALLEE.replace("x + 1", "x + 100"))
    assert _call(copied) == (101, 0)


def test_a_function_compiled_once_is_called_where_it_is_and_loaded_before_its_cached_callers(copied: Path) -> None:
    callee = copied / "ringrift_ops" / "rules" / "callee.py"
    callee.write_text(CALLEE.replace("jit", "jit_once"))
    assert _call(copied) == (2, 0)
    assert _call(copied) == (2, 1)
    for compiled in (copied / "cache").rglob("callee.callee*"):
        compiled.unlink()
    assert _call(copied) == (2, 1), "a callee that is not in the cache is compiled again before its caller is loaded"
    callee.write_text(callee.read_text().replace("x + 1", "x + 100"))
    assert _call(copied) == (101, 0)


def test_an_error_raised_by_a_function_compiled_once_reaches_python(copied: Path) -> None:
    callee = copied / "ringrift_ops" / "rules" / "callee.py"
    callee.write_text(CALLEE.replace("jit", "jit_once").replace("return x + 1", 'raise ValueError("said no")'))
    for _ in range(2):
        with pytest.raises(subprocess.CalledProcessError) as raised:
            _call(copied)
        assert "ValueError: said no" in raised.value.stderr


def test_a_literal_argument_makes_no_form_of_its_own(copied: Path) -> None:
    caller = copied / "ringrift_ops" / "rules" / "caller.py"
    caller.write_text(CALLER.replace("return callee(x)", "return callee(1) + callee(2) + callee(x) - 5"))
    assert _call(copied) == (2, 0)
    script = (
        "from ringrift_ops.rules.caller import caller\nfrom ringrift_ops.rules.callee import callee\n"
        "caller(1)\nprint(len(callee.copies), len(callee.signatures))"
    )
    assert _run(copied, script, cache="other").split() == ["1", "0"]


COUNTED = '''"""References that are counted, or not."""

import sys

import numpy as np

from ringrift_ops.rules.compile import jit, jit_allocating


@jit_allocating
def part(a):
    """An array, so counted."""
    return a[1:]


@jit_allocating
def counted(a):
    """Calls what returns an array."""
    return part(a)[0]


@jit
def uncounted(a):
    """Uses an array of its caller's."""
    return a[1:][0]


@jit
def refused(a):
    """Would never give its reference back."""
    return part(a)[0]


numbers = np.arange(3)
for _ in range(5):
    counted(numbers), uncounted(numbers), part(numbers)
print(sys.getrefcount(numbers))
refused(numbers)
'''


def test_no_reference_to_an_array_is_lost_and_what_would_lose_one_is_refused(copied: Path) -> None:
    (copied / "ringrift_ops" / "rules" / "counted.py").write_text(COUNTED)
    with pytest.raises(subprocess.CalledProcessError) as raised:
        _run(copied, "import ringrift_ops.rules.counted")
    assert raised.value.stdout.split() == ["2"]
    assert "refused returns an array or calls a compiled function that does" in raised.value.stderr


def test_the_digest_covers_what_is_compiled_and_nothing_else(copied: Path) -> None:
    package = copied / "ringrift_ops"
    before = source_digest(package)
    for room in ("rules", "players", "network", "parity"):
        (package / room).mkdir(exist_ok=True)
        (package / room / "plain.py").write_text("import torch\n")
    assert source_digest(package) == before
    seen = {before}
    for name in ("rules/new", "players/new", "network/new", "parity/new", "rules/boards", "rules/layout"):
        (package / f"{name}.py").write_text(CALLEE)
        seen.add(source_digest(package))
    assert len(seen) == 7


def _compiled(node: ast.stmt) -> bool:
    names = ("jit", "jit_allocating", "jit_once", "intrinsic", "overload")
    decorators = getattr(node, "decorator_list", [])
    return any(isinstance(n, ast.Name) and n.id in names for one in decorators for n in ast.walk(one))


def _origins(path: Path) -> Iterator[str]:
    """Modules of ours from which machine code of a file has names: of its compiled functions and their constants."""
    tree = ast.parse(path.read_text())
    origin: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ringrift_ops."):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                is_module = (PACKAGE.parent / Path(*whole.split("."))).with_suffix(".py").exists()
                origin[alias.asname or alias.name] = whole if is_module else str(node.module)
    constants = [node for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign | ast.For)]
    for node in [*constants, *(node for node in tree.body if _compiled(node))]:
        body = node.body if isinstance(node, ast.FunctionDef) else [node]
        used = {n.id for one in body for n in ast.walk(one) if isinstance(n, ast.Name)}
        yield from (origin[name] for name in used & set(origin))


def test_every_file_that_compiled_code_has_a_name_from_is_in_the_digest() -> None:
    covered = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in compiled_files()}
    wanted = {module: path.name for path in compiled_files() for module in _origins(path)}
    assert {"ringrift_ops.rules.boards", "ringrift_ops.rules.turn", "ringrift_ops.network.encoder"} <= set(wanted)
    assert {module: by for module, by in wanted.items() if module not in covered} == {}
    names = {path.name for path in compiled_files()}
    assert not {"training.py", "checkpoints.py", "weights.py", "watcher.py", "npz.py", "targets.py"} & names
