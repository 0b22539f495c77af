"""The runbook pages as tests read them: sections with a situation, its commands, and what they print.

A section of ``docs/runbooks/*.md`` that runs looks like this; what the commands print is real output. A line ``...``
stands for any number of lines, ``...`` within a line for any words. Between two blocks ``<!-- wait: NAME -->`` says
what is waited for before the next command::

    ## Export finds no games
    <!-- situation: nothing_played -->

    ```console
    $ ringrift diagnose hex8_2p --stage export
    ...
    (exit code 3)
    ```
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
PAGES = PROJECT / "docs" / "runbooks"
STEP_SECONDS = 300
ANY = "..."

_HEADING = re.compile(r"^#{1,4} (.+)$")
_SITUATION = re.compile(r"^<!-- situation: (\w+) -->$")
_WAIT = re.compile(r"^<!-- wait: (\w+) -->$")
_EXIT = re.compile(r"^\(exit code \d+\)$")
_VARIES = [
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?"), "TIME"),
    (re.compile(r"\b(?=[0-9a-f]*[0-9])(?=[0-9a-f]*[a-f])[0-9a-f]{8,64}\b"), "HASH"),
    (re.compile(r"(?<![A-Za-z0-9.])[-+]?\d[\d,]*(\.\d+)?(e-?\d+)?(?![A-Za-z])"), "N"),
    (re.compile(r"(?<=g)\d+(?=[-_\]])"), "N"),
    (re.compile(r"[-─━]{3,}"), "---"),
    (re.compile(r"\s+"), " "),
]
"""What differs from run to run, most telling first, and the word that takes its place. Names as ``hex8_2p`` stay."""


@dataclass(frozen=True)
class Step:
    """One command line of a page, the lines below it, and what is waited for before it. ``line``: its number."""

    command: str
    shown: tuple[str, ...]
    line: int
    wait: str | None = None


@dataclass(frozen=True)
class Section:
    """A part of a page whose commands run one after the other in one situation."""

    page: Path
    title: str
    situation: str
    steps: tuple[Step, ...]

    @property
    def name(self) -> str:
        return f"{self.page.stem}: {self.title}"


def pages() -> list[Path]:
    """Return the pages, first-day first."""
    return sorted(PAGES.glob("*.md"), key=lambda path: (path.stem != "first-day", path.stem))


def sections(page: Path) -> list[Section]:
    """Return the sections of a page that name a situation."""
    found: list[Section] = []
    title, situation, wait, steps = "", None, None, list[Step]()
    inside = False

    def close() -> None:
        if situation is not None:
            found.append(Section(page, title, situation, tuple(steps)))

    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("```"):
            inside = line == "```console"
        elif inside and line.startswith("$ "):
            steps.append(Step(line[2:], (), number, wait))
            wait = None
        elif inside and steps:
            last = steps[-1]
            more = last.command.endswith("\\") and not last.shown
            steps[-1] = (
                replace(last, command=f"{last.command}\n{line}") if more else replace(last, shown=(*last.shown, line))
            )
        elif not inside and (heading := _HEADING.match(line)):
            close()
            title, situation, wait, steps = heading[1], None, None, []
        elif named := _SITUATION.match(line):
            situation = named[1]
        elif waits := _WAIT.match(line):
            wait = waits[1]
    close()
    return found


def consoles_outside(page: Path) -> list[int]:
    """Return the line numbers of the ``console`` blocks that stand in no section with a situation."""
    inside, outside = False, []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if _HEADING.match(line):
            inside = False
        elif _SITUATION.match(line):
            inside = True
        elif line == "```console" and not inside:
            outside.append(number)
    return outside


def run(command: str, folder: Path, environment: dict[str, str]) -> list[str]:
    """Run a command line as a person would, in a shell in ``folder``; return what it printed.

    A code other than 0 is the last line, ``(exit code N)``.
    """
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        env=os.environ
        | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "140", "NO_COLOR": "1"}
        | environment,
        cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=STEP_SECONDS, check=False,
    )  # fmt: skip
    lines = [line.rstrip() for line in done.stdout.rstrip("\n").splitlines()]
    return [*lines, f"(exit code {done.returncode})"] if done.returncode else lines


def shape(lines: list[str] | tuple[str, ...]) -> list[str]:
    """Return the lines without what differs from run to run: times, hashes, numbers, widths; empty ones are dropped."""
    shaped = []
    for line in lines:
        text = line
        if not _EXIT.match(line):
            for pattern, word in _VARIES:
                text = pattern.sub(word, text)
        shaped.append(text.strip())
    return [line for line in shaped if line]


def same_shape(shown: list[str], printed: list[str]) -> bool:
    """Whether lines in their shape are what the page shows in its shape, ``...`` standing for anything."""
    if not shown:
        return not printed
    if shown[0] == ANY:
        return any(same_shape(shown[1:], printed[start:]) for start in range(len(printed) + 1))
    return bool(printed) and _same_line(shown[0], printed[0]) and same_shape(shown[1:], printed[1:])


def _same_line(shown: str, printed: str) -> bool:
    pattern = ".*".join(re.escape(part) for part in shown.split(ANY))
    return re.fullmatch(pattern, printed) is not None


def fits(step: Step, printed: list[str]) -> bool:
    """Whether a command printed what its page shows."""
    return same_shape(shape(step.shown), shape(printed))


def rewrite(section: Section, outputs: dict[int, list[str]]) -> None:
    """Put real output below the commands of a section (by their place in it); its page may have changed meanwhile."""
    lines = section.page.read_text(encoding="utf-8").splitlines()
    (now,) = (one for one in sections(section.page) if one.title == section.title)
    for place in sorted(outputs, reverse=True):
        step = now.steps[place]
        first = step.line + step.command.count("\n")
        last = first
        while not lines[last].startswith(("$ ", "```")):
            last += 1
        lines[first:last] = outputs[place]
    section.page.write_text("\n".join(lines) + "\n", encoding="utf-8")
