"""Figures, where they are kept and how they are shown: one JSON list of rows, and the table made from it."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter

from ringrift_ops.home import project_folder
from ringrift_ops.store import atomic_write
from tests.bench.machine import BUSY_LOAD, Machine, begun, commit, python_version

JSON_NAME: Final = "bench.json"
TABLE_NAME: Final = "bench.md"
DOCS: Final = project_folder() / "docs"

PARTS: Final = {
    "rules": "Rules: random play-outs on one core",
    "peers": "Peers: OpenSpiel's games, random play-outs by its own C++ loop on one core",
    "compile": "Compiling",
    "speeds": "Data, players, training: one core",
    "memory": "Peak memory of each stage",
    "dags": "DAG files",
    "standing": "`ringrift status` with years on record",
    "hops": "Airflow with the project's settings: from the end of a task to the start of the next",
    "hosts": "Hosts behind real sshds on loopback",
    "celery": "The same in production: Celery, Postgres and the services of docker-compose.yaml",
    "first": "From `make run` to a promoted net",
}
"""Every part of the bench in the order in which it is run and shown."""


class Row(BaseModel):
    """One figure, with everything that is needed to make it again.

    ``figure`` is the median of several runs where there are several, ``best`` the best of them; None where it could
    not be measured, and ``note`` says why. ``peer`` names the row of the same file that it is held against.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    part: str
    figure: float | None
    unit: str
    target: float | None = None
    better: Literal["higher", "lower"] = "higher"
    best: float | None = None
    peer: str | None = None
    note: str = ""
    command: str
    commit: str
    machine: Machine
    python: str
    date: str

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached; None without target."""
        if self.target is None:
            return None
        if self.figure is None:
            return False
        return self.figure >= self.target if self.better == "higher" else self.figure <= self.target


ROWS: Final = TypeAdapter(list[Row])


class Sheet:
    """Collects the rows of one part. ``machine`` is read when the part begins: the load before it, not its own."""

    def __init__(self, part: str) -> None:
        self.part = part
        self.rows: list[Row] = []
        self._machine = Machine.now()
        self._commit = commit()
        if self._machine.load > BUSY_LOAD * self._machine.cores:
            print(f"!! load {self._machine.load:.1f} on {self._machine.cores} cores: these figures are not final")

    def add(
        self,
        name: str,
        runs: Sequence[float] | float | None,
        unit: str,
        *,
        target: float | None = None,
        better: Literal["higher", "lower"] = "higher",
        peer: str | None = None,
        note: str = "",
    ) -> Row:
        """Add a figure from one or several runs (None: it could not be measured) and print it."""
        values = [] if runs is None else [float(one) for one in (runs if isinstance(runs, Sequence) else [runs])]
        best = None
        if len(values) > 1:
            best = rounded(max(values) if better == "higher" else min(values))
        row = Row(
            name=name,
            part=self.part,
            figure=rounded(statistics.median(values)) if values else None,
            unit=unit,
            target=target,
            better=better,
            best=best,
            peer=peer,
            note=note,
            command=f"python -m tests.bench {self.part}",
            commit=self._commit,
            machine=self._machine,
            python=python_version(),
            date=begun(),
        )
        self.rows.append(row)
        print(f"   {in_words(row)}", flush=True)
        return row


def rounded(value: float) -> float:
    """Four digits: more than any of these measurements repeats."""
    return float(f"{value:.4g}")


def in_words(row: Row) -> str:
    """One line for the terminal."""
    parts = [f"{row.name}: {number(row.figure)} {row.unit}"]
    if row.best is not None:
        parts.append(f"best {number(row.best)}")
    if row.target is not None:
        parts.append(f"target {_aim(row)}{'' if row.reached else '  FALLS SHORT'}")
    return ", ".join([*parts, *([row.note] if row.note else [])])


def number(value: float | None) -> str:
    """A figure as people read it."""
    if value is None:
        return "-"
    if abs(value) >= 1e6:
        return f"{value / 1e6:.2f} M"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _aim(row: Row) -> str:
    return "" if row.target is None else f"{'≥' if row.better == 'higher' else '≤'} {number(row.target)}"


def read_rows(path: Path) -> list[Row]:
    """The rows of an earlier run, none where there was none."""
    return ROWS.validate_json(path.read_bytes()) if path.exists() else []


def publish(rows: Sequence[Row], parts: Sequence[str], folder: Path) -> None:
    """Put the rows of ``parts`` in the place of those that ``folder`` holds of them, and write the table anew."""
    path = folder / JSON_NAME
    kept = [row for row in read_rows(path) if row.part not in parts]
    order = list(PARTS)
    whole = sorted([*kept, *rows], key=lambda row: order.index(row.part))
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps([row.model_dump(mode="json") for row in whole], indent=1, ensure_ascii=False)
    atomic_write(path, text.encode() + b"\n")
    atomic_write(folder / TABLE_NAME, table(whole).encode())


def table(rows: Sequence[Row]) -> str:
    """The page docs/bench.md."""
    lines = [
        "# Bench",
        "",
        "Made by `make bench` from [bench.json](bench.json), which also holds command, commit and machine of every",
        "figure; do not edit. A figure is the median of its runs, speeds are per second of processor time, compiled",
        "beforehand. A ratio is our figure over the peer's of the same run.",
        "",
        *_machines(rows),
    ]
    by_name = {row.name: row for row in rows}
    for part, title in PARTS.items():
        ours = [row for row in rows if row.part == part]
        if ours:
            lines += ["", f"## {title}", "", *_part(ours, by_name)]
    return "\n".join(lines) + "\n"


def _machines(rows: Sequence[Row]) -> list[str]:
    seen: dict[str, list[str]] = {}
    for row in rows:
        words = (
            f"{row.machine.cpu}, {row.machine.cores} cores, Python {row.python}, commit {row.commit}, {row.date[:10]}"
        )
        parts = seen.setdefault(words, [])
        if row.part not in parts:
            parts.append(row.part)
    lines = [f"- {words}: {', '.join(parts)}" for words, parts in seen.items()]
    busy = sorted({row.part for row in rows if row.machine.load > BUSY_LOAD * row.machine.cores})
    if busy:
        lines += ["", f"**Measured beside other work, not final:** {', '.join(busy)}."]
    return lines


def _part(rows: Sequence[Row], by_name: dict[str, Row]) -> list[str]:
    peers = any(row.peer for row in rows)
    heads = ["figure", "measured", "unit", "target", "reached", *(["peer", "peer's", "ratio"] if peers else []), "note"]
    lines = [_line(heads), _line(["---", "---:", "---", "---:", "---"] + ["---", "---:", "---:"] * peers + ["---"])]
    for row in rows:
        reached = {None: "", True: "yes", False: "**no**"}[row.reached]
        cells = [row.name, number(row.figure), row.unit, _aim(row), reached]
        if peers:
            cells += _beside(row, by_name.get(row.peer or ""))
        lines.append(_line([*cells, row.note]))
    return lines


def _beside(row: Row, peer: Row | None) -> list[str]:
    """The peer's cells; a peer's figure of another run is not comparable and is left out."""
    if peer is None or peer.figure is None or row.figure is None or peer.date != row.date:
        return [row.peer or "", "", ""]
    return [peer.name, number(peer.figure), f"{row.figure / peer.figure:.2f}"]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
