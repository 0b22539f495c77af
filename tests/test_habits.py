"""What holds for the whole project, whichever room it is in."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
PACKAGE = PROJECT / "ringrift_ops"

FLOORS = {
    "errors": 0, "home": 0.1, "stages.specs": 0.2, "settings": 0.3, "store": 0.4, "rules": 0.5,
    "games": 1, "ledger": 1,
    "network": 2, "players": 2.1, "parity": 2.2,
    "rating": 3, "hosts": 3,
    "stages": 4, "operations": 4.1,
    "platform": 5, "airflow": 5.1, "web": 5.2, "cli": 5.3, "runbook": 5.3,
}  # fmt: skip
"""Where each room is in the house. A room imports from lower ones only."""

LIGHT = ("errors", "home", "stages.specs", "settings", "store", "games", "ledger", "hosts")
"""Rooms that a controller and every DAG file import: neither torch nor numba."""


def tracked(*suffixes: str) -> list[Path]:
    answer = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode != 0:
        pytest.skip("not a git checkout")
    paths = [PROJECT / line for line in answer.stdout.splitlines()]
    return [path for path in paths if path.suffix in suffixes and path.exists()]


def room_of(module: str) -> str | None:
    """The room of ``ringrift_ops.<module>``: the longest name in the plan of the house."""
    parts = module.split(".")
    for length in (2, 1):
        if ".".join(parts[:length]) in FLOORS:
            return ".".join(parts[:length])
    return None


def imports(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        if name != "__init__" and "node_modules" not in path.parts:
            found.append((name, path))
    return found


def test_every_room_has_its_floor() -> None:
    assert [name for name, _ in modules() if room_of(name) is None] == []


def test_rooms_import_only_from_floors_below() -> None:
    wrong = []
    for name, path in modules():
        own = room_of(name)
        for imported, line in imports(path):
            other = room_of(imported.removeprefix("ringrift_ops.")) if imported.startswith("ringrift_ops.") else None
            if own is None or other is None or other == own or own.split(".")[0] == other.split(".")[0]:
                continue
            if FLOORS[other] >= FLOORS[own]:
                wrong.append(f"{path.relative_to(PROJECT)}:{line}: {own} imports {imported}")
    assert wrong == []


def test_nothing_below_the_top_floor_imports_airflow_and_light_rooms_nothing_heavy() -> None:
    wrong = []
    for name, path in modules():
        room = room_of(name) or ""
        banned = {"airflow"} if FLOORS[room] < 5 else set()
        banned |= {"torch", "numba"} if room in LIGHT else set()
        wrong += [
            f"{path.relative_to(PROJECT)}:{line}: {imported}"
            for imported, line in imports(path)
            if imported.split(".")[0] in banned
        ]
    assert wrong == []


def test_no_file_is_longer_than_a_room() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in tracked(".py", ".ts")}
    too_long = {
        str(path.relative_to(PROJECT)): lines
        for path, lines in lengths.items()
        if lines > (900 if path.is_relative_to(PROJECT / "tests") else 500)
    }
    assert too_long == {}


@pytest.mark.parametrize(
    "pattern",
    [r"\bTO" + r"DO\b", r"\bFIX" + r"ME\b", r"allow_pickle\s*=\s*True", r"shell\s*=\s*True", r"type: ignore(?!\[)"],
)
def test_what_this_project_does_not_write(pattern: str) -> None:
    wrong = [
        f"{path.relative_to(PROJECT)}:{number}"
        for path in tracked(".py", ".ts", ".md", ".yaml", ".toml")
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(pattern, line)
    ]
    assert wrong == []


def pins(name: str) -> dict[str, str]:
    lines = (PROJECT / name).read_text(encoding="utf-8").splitlines()
    wanted = [line for line in lines if line and not line.startswith(("#", "-r"))]
    assert [line for line in wanted if not re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9.]+", line)] == []
    return dict(line.split("==") for line in wanted)  # type: ignore[arg-type]  # two parts, as just asserted


def test_every_requirement_is_pinned_exactly_and_is_what_the_tests_run_on() -> None:
    pinned = pins("requirements.txt")
    installed = {name: importlib.metadata.version(name).partition("+")[0] for name in pinned}
    assert installed == pinned
    assert pins("requirements-compose.txt")["celery"].startswith("5.6.")


def test_every_direct_dependency_is_pinned() -> None:
    pinned = {re.sub(r"[-_.]+", "-", name).lower() for name in pins("requirements.txt")}
    wanted = importlib.metadata.requires("ringrift-ops") or []
    names = {re.split(r"[<>=!;\[ ]", line)[0].lower().replace("_", "-") for line in wanted}
    assert names - pinned == set()


def test_every_link_in_the_pages_leads_somewhere() -> None:
    broken = [
        f"{page.relative_to(PROJECT)}: {target}"
        for page in tracked(".md")
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
        if not target.startswith(("http://", "https://", "mailto:")) and not (page.parent / target).exists()
    ]
    assert broken == []
