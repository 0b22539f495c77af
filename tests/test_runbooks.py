"""Every line of the operators' runbooks is covered or owed, and the commands on the pages exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from ringrift_ops.settings import CONFIGS

PROJECT = Path(__file__).resolve().parents[1]
PAGES = PROJECT / "docs" / "runbooks"
ROWS = [f"R{number}" for number in range(1, 81)]


def owed() -> dict[str, str]:
    lines = (PAGES / "owed.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split() for line in lines if not line.startswith("#"))  # type: ignore[misc]  # "R12 pipeline"


def with_a_test() -> set[str]:
    text = "\n".join(path.read_text(encoding="utf-8") for path in (PROJECT / "tests").rglob("test_*.py"))
    return set(re.findall(r"def test_(?:[A-Z]\d+_)*?(R\d{1,2})_", text))


def with_a_page_line() -> set[str]:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES.glob("*.md"))
    return set(re.findall(r"^\| (R\d+) \|", text, re.MULTILINE))


def test_every_row_of_the_runbooks_is_covered_or_owed_and_never_both() -> None:
    covered = with_a_test() & with_a_page_line()
    assert [row for row in ROWS if row not in covered and row not in owed()] == [], "neither covered nor owed"
    assert [row for row in ROWS if row in covered and row in owed()] == [], "covered: strike it from owed.txt"
    assert [row for row in (*owed(), *with_a_test()) if row not in ROWS] == [], "no such row"


def test_every_owed_row_names_the_part_that_brings_it() -> None:
    assert set(owed().values()) <= {"pipeline", "hosts", "operations", "later"}


def commands_on_the_pages() -> list[str]:
    found: set[str] = set()
    for page in [PROJECT / "README.md", *(PROJECT / "docs").rglob("*.md")]:
        if page.name != "cli.md":
            text = page.read_text(encoding="utf-8").replace("\\|", "|")
            found.update(re.findall(r"`(ringrift [^`]+)`", text))
            found.update(re.findall(r"^\$ (ringrift .+)$", text, re.MULTILINE))
    return sorted(found)


@pytest.mark.parametrize("line", commands_on_the_pages())
def test_F16_every_command_on_a_page_exists_with_its_options(line: str) -> None:
    from ringrift_ops.cli.app import app

    command: Any = typer.main.get_command(app)
    words = line.replace("[", "").replace("]", "").replace("...", "").split()[1:]
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    if words and words[0] in (*CONFIGS, "CONFIG") and hasattr(command, "of_config"):
        command = command.commands[command.of_config]
    options = {name for one in command.params for name in [*one.opts, *getattr(one, "secondary_opts", [])]}
    if words and words[0].startswith("<"):
        return
    assert not getattr(command, "commands", {}) or not words or words[0].startswith("-"), f"no command {words[0]}"
    assert [word for word in words if word.startswith("--") and word not in options] == []
