"""What the logs say: counts of known patterns, and unknown errors grouped by what they have in common (R38).

Reads the logs of the platform, its components, tasks and jobs, line by line and in bounded memory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from ringrift_ops.errors import UsageError
from ringrift_ops.home import Home

LEVELS = ("debug", "info", "warning", "error", "critical")

KNOWN: Mapping[str, tuple[str, str]] = {
    "out of memory": (
        r"out of memory|OutOfMemoryError|MemoryError|oom-kill", "a smaller batch; `ringrift cluster health`",
    ),
    "disk full": (r"No space left on device|disk (is )?full|Disk quota exceeded", "`ringrift retention plan`"),
    "diverged": (r"training diverged|loss is (nan|inf)|not a number", "a lower rate; `ringrift jobs ID --logs`"),
    "corrupt file": (r"corrupt|damaged|truncated|was altered|digest does not fit", "`ringrift data validate CONFIG`"),
    "parity": (r"failed parity|rule engines disagree|Parity validation failed", "`ringrift parity diff BUNDLE`"),
    "no games": (r"No games found|no games (wait|have)|none of \d+ games", "`ringrift data CONFIG`"),
    "host unreachable": (
        r"Connection (refused|reset|closed)|Host key|No route to host|host \S+ (is away|did not answer)",
        "`ringrift cluster health`",
    ),
    "permission": (r"Permission denied|may not be read|not writable", "`ringrift preflight CONFIG`"),
    "timeout": (r"time(d )?out|ran past its time limit|TimeoutError", "`ringrift jobs ID --logs`"),
    "stalled": (r"no sign of life|showed no heartbeat|stalled", "`ringrift recover CONFIG`"),
    "killed": (r"killed by signal|exited with code (137|143)|SIGKILL", "`ringrift jobs ID --logs`"),
    "lease": (r"token \d+ is not in force|lease \S+ is held by", "`ringrift lock CONFIG`"),
    "breaker open": (r"its breaker lets the next attempt|BREAKER_OPENED", "`ringrift breakers`"),
    "database": (r"database is locked|ledger \S+ is at revision|could not connect to server", "`ringrift health`"),
    "gate said no": (r"ringrift: FAIL: |not promoted: ", "`ringrift evaluation CONFIG`"),
    "no evidence": (r"NO_EVIDENCE|gauntlet measured nothing", "`ringrift evaluation CONFIG`"),
    "delivery": (r"deliveries failed|DISTRIBUTION_FAILED|not delivered to", "`ringrift model availability CONFIG`"),
}  # fmt: skip
"""{name: (what its lines look like, what to begin with)}; a line counts for the first that it matches."""

_PATTERNS = {name: re.compile(pattern, re.IGNORECASE) for name, (pattern, _) in KNOWN.items()}
_STAMP = re.compile(r"^\[?(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)?)")
_LEVEL = re.compile(r"\b(DEBUG|INFO|WARNING|WARN|ERROR|CRITICAL|FATAL)\b|\[(debug|info|warning|error|critical) *\]")
_ERROR_WORDS = re.compile(r"^ringrift: |^[\w.]*(Error|Exception)\b(: |$)|^Traceback ")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_VARYING = (
    (re.compile(r"\b[0-9a-f]{12,64}\b"), "HASH"),
    (re.compile(r"(/[\w.@+-]+){2,}"), "PATH"),
    (re.compile(r"\d+(\.\d+)?"), "N"),
)
_LONGEST = 4_000
_SHOWN = 160
_GROUPS = 1_000


class UnknownLevelError(UsageError):
    """A level that logs do not have."""


@dataclass
class Group:
    """Lines that are alike. ``first`` and ``last``: moments; ``example``: the newest line; ``files`` it was in."""

    name: str
    count: int = 0
    first: datetime | None = None
    last: datetime | None = None
    example: str = ""
    files: set[str] = field(default_factory=set)

    def saw(self, at: datetime, line: str, file: str) -> None:
        self.count += 1
        self.first = at if self.first is None else min(self.first, at)
        if self.last is None or at >= self.last:
            self.last, self.example = at, line[:_SHOWN]
        self.files.add(file)


@dataclass(frozen=True)
class Analysis:
    """What was found. ``known`` by pattern and ``unknown`` errors by what they have in common, the most frequent first;
    ``lines`` that were looked at in the time asked for, by level.
    """

    files: int
    lines: Mapping[str, int]
    known: list[Group]
    unknown: list[Group]
    not_grouped: int


def analyze(
    home: Home, since: datetime | None = None, until: datetime | None = None, level: str = "warning"
) -> Analysis:
    """Return the patterns in the logs between two moments, of lines of ``level`` or above.

    A line without a moment of its own has that of the line before, in the same file, else the file's. Raises
    :class:`UnknownLevelError`.
    """
    if level not in LEVELS:
        raise UnknownLevelError(f"unknown level {level!r}; valid: {', '.join(LEVELS)}")
    least = LEVELS.index(level)
    known: dict[str, Group] = {}
    unknown: dict[str, Group] = {}
    counted: dict[str, int] = {}
    files = not_grouped = 0
    for path in logs_of(home):
        files += 1
        name = home.relative(path)
        for at, severity, line in lines_of(path):
            if (since is not None and at < since) or (until is not None and at > until):
                continue
            counted[severity] = counted.get(severity, 0) + 1
            if LEVELS.index(severity) < least:
                continue
            pattern = next((one for one, look in _PATTERNS.items() if look.search(line)), None)
            if pattern is not None:
                known.setdefault(pattern, Group(pattern)).saw(at, line, name)
            elif LEVELS.index(severity) >= LEVELS.index("error"):
                common = in_common(line)
                if common not in unknown and len(unknown) >= _GROUPS:
                    not_grouped += 1
                else:
                    unknown.setdefault(common, Group(common)).saw(at, line, name)
    return Analysis(files, counted, _frequent(known), _frequent(unknown), not_grouped)


def logs_of(home: Home) -> Iterator[Path]:
    """Yield every log of a home; ``logs/coordination.log`` stands for the two that are parts of it."""
    parts = {home.logs / "training.log", home.logs / "pipeline_orchestrator.log", home.logs / "alerts.log"}
    for folder, pattern in ((home.logs, "*.log"), (home.jobs, "log.txt")):
        if folder.is_dir():
            yield from (path for path in sorted(folder.rglob(pattern)) if path not in parts and path.is_file())


def lines_of(path: Path) -> Iterator[tuple[datetime, str, str]]:
    """Yield (moment, level, text) of each line of a log: plain text, or Airflow's JSON lines."""
    at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    with path.open(encoding="utf-8", errors="replace") as log:
        while part := log.readline(_LONGEST):
            line = _COLOURS.sub("", part).strip()
            if not line:
                continue
            moment, severity, text = _parsed(line)
            at = moment or at
            yield at, severity, text


def _parsed(line: str) -> tuple[datetime | None, str, str]:
    if line.startswith("{"):
        try:
            told = json.loads(line)
            severity = _named(str(told.get("level", "info")))
            error = told.get("error_detail")
            why = f": {error[0]['exc_type']}: {error[0]['exc_value']}" if error else ""
            return _moment(str(told.get("timestamp", ""))), severity, f"{told.get('event', line)}{why}"
        except (ValueError, TypeError, LookupError, AttributeError):
            pass  # no JSON line after all: it is looked at as text
    stamp, said = _STAMP.match(line), _LEVEL.search(line[:120])
    severity = _named(next(filter(None, said.groups()))) if said else "error" if _ERROR_WORDS.search(line) else "info"
    return (
        (None if stamp is None else _moment(stamp[1])),
        severity,
        line if stamp is None else line[stamp.end() :].strip(),
    )


def _moment(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


def _named(level: str) -> str:
    lower = {"warn": "warning", "fatal": "critical", "exception": "error"}.get(level.lower(), level.lower())
    return lower if lower in LEVELS else "info"


def in_common(line: str) -> str:
    """Return a line without what varies: hashes, paths, numbers."""
    for pattern, word in _VARYING:
        line = pattern.sub(word, line)
    return line[:_SHOWN]


def _frequent(groups: Mapping[str, Group]) -> list[Group]:
    return sorted(groups.values(), key=lambda one: (-one.count, one.name))
