"""The live picture of a run, and the table at its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ringrift_ops.platform.progress import Progress, Row, rate
from ringrift_ops.stages.specs import Stage

COLORS = {
    "done": "green",
    "running": "yellow",
    "deferred": "yellow",
    "failed": "red",
    "upstream_failed": "red",
    "skipped": "dim",
    "waiting": "dim",
}
SAID = {
    "upstream_failed": "not reached",
    "deferred": "under way",
    "up_for_retry": "trying again",
    "running": "under way",
}


def picture(progress: Progress, title: str) -> RenderableType:
    """Return all stages with states, counts, rates, and what their heartbeats tell."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 1))
    for heading, justify in (("stage", "left"), ("", "left"), ("", "left"), ("", "right"), ("", "right")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]  # rich's literal
    table.show_header = False
    notes: list[RenderableType] = []
    for row in progress.rows:
        bar: RenderableType = ""
        if row.total and row.state not in ("done", "skipped"):
            bar = ProgressBar(total=row.total, completed=min(row.done, row.total), width=24)
        table.add_row(row.name, Text(SAID.get(row.state, row.state), COLORS.get(row.state, "")), bar, counts(row),
                      "" if row.seconds is None else f"{row.seconds:.0f} s")  # fmt: skip
        notes += [Text(f"  {row.name}: {note}", "cyan") for note in row.notes if row.state not in ("done", "skipped")]
    return Group(table, *notes)


def counts(row: Row) -> str:
    """Return ``1,200 of 5,000 games, 350/s``."""
    if not row.unit:
        return ""
    total = f" of {row.total:,.0f}" if row.total and row.state != "done" else ""
    speed = "" if row.rate is None else f", {row.rate:,.0f}/s"
    return f"{row.done:,.0f}{total} {row.unit}{speed}"


def line(row: Row) -> str:
    """Return a row as one line of plain text."""
    parts = [row.name, SAID.get(row.state, row.state), counts(row)]
    if row.seconds is not None:
        parts.append(f"{row.seconds:.0f} s")
    return "  ".join(filter(None, [*parts, *row.notes]))


def summary(progress: Progress, config: str, warnings: Sequence[str] = ()) -> Table:
    """Return what the generation came to: games, parity, samples, losses, win rates, verdict, net, times."""
    generation = progress.generation
    number = "-" if generation is None or generation.number is None else str(generation.number)
    table = Table(title=f"{config}, generation {number}", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in _facts(progress):
        table.add_row(name, value)
    times = ", ".join(f"{row.name} {row.seconds:.0f} s" for row in progress.rows if row.seconds is not None)
    table.add_row("time per stage", times)
    if generation is not None and generation.outcome is not None:
        table.add_row("outcome", f"{generation.outcome.value}: {generation.reason}")
    for warning in warnings:
        table.add_row("settings", warning)
    return table


def _facts(progress: Progress) -> list[tuple[str, str]]:
    facts: list[tuple[str, str]] = []
    results = progress.results
    generation = progress.generation
    if generation is not None:
        facts.append(("parent", (generation.parent or "none")[:16]))
    if made := results.get(Stage.SELFPLAY):
        games, moves = sum(one["games"] for one in made), sum(one["moves"] for one in made)
        facts.append(("games", f"{games:,} with {moves:,} moves in {len(made)} batches"))
    for one in results.get(Stage.PARITY, []):
        facts.append(("parity", f"{one['checked']:,} games replayed by the second engine, {one['failed']} differ"))
    for one in results.get(Stage.EXPORT, []):
        facts.append(("samples", f"{one['samples']:,} from {one['games']:,} games"))
    for one in results.get(Stage.TRAIN, []):
        facts.append(("losses", _losses(one)))
    for one in results.get(Stage.GAUNTLET, []):
        facts += [
            (f"against {other['opponent']}", f"{rate(other)} games, {_sought(other)}: {other['verdict']}")
            for other in one["opponents"]
        ]
        if one["mirror"] is not None:
            facts.append(("against heuristic search", f"{rate(one['mirror'])} games (shown, not gated)"))
        facts.append(("verdict", f"{one['verdict']} ({one['reason']})"))
    for one in results.get(Stage.TRAIN, []):
        facts.append(("net", one["weights"]))
    for one in results.get(Stage.PROMOTE, []):
        facts.append(("promoted", "yes" if one["promoted"] else f"no: {one['reason']}"))
    for one in results.get(Stage.DISTRIBUTE, []):
        facts += [("delivered", f"{delivery['path']}") for delivery in one["deliveries"]]
    return facts


def _losses(result: dict[str, Any]) -> str:
    parent = result["parent_validation_loss"]
    before = "" if parent is None else f", parent {parent:.4f}"
    return f"training {result['train_loss']:.4f}, validation {result['validation_loss']:.4f}{before}"


def _sought(other: dict[str, Any]) -> str:
    return f"{100 * other['threshold']:.0f} % sought"
