"""``ringrift pipeline run canonical_selfplay``: what would run where, and the live table of what does."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ringrift_ops.cli.output import print_fields, print_json, print_table
from ringrift_ops.cli.progress import duration

if TYPE_CHECKING:
    from ringrift_ops.operations.playing import Picture
    from ringrift_ops.stages.specs import SelfplayResult, SelfplaySpec

_PLAIN_SECONDS = 10.0
"""Between two plain lines."""


def play(
    ask: Mapping[str, Any],
    spec_of: Callable[[], SelfplaySpec],
    *,
    backend: Literal["local", "ssh"],
    state: Path | None,
    dry_run: bool,
    as_json: bool,
) -> SelfplayResult | None:
    """Do, go on with, or with ``dry_run`` only describe what was asked; ``spec_of`` makes its spec when it is new."""
    from ringrift_ops.home import Home
    from ringrift_ops.ledger import Ledger
    from ringrift_ops.operations import parts as sharing
    from ringrift_ops.operations.playing import Playing
    from ringrift_ops.settings import Settings
    from ringrift_ops.stages.hosting import Hosting
    from ringrift_ops.stages.specs import SelfplaySpec

    home = Home.find()
    settings = Settings.load(home)
    ledger = Ledger.open(settings.ledger_url)
    hosting = Hosting(home, ledger)
    with nullcontext() if dry_run else sharing.alone(home, ask):
        found = sharing.taken_up(ledger, home, ask, state)
        spec = spec_of() if found is None else SelfplaySpec.model_validate(found.spec)
        parts = sharing.parts_of(settings, spec) if found is None else found.shards
        slots = sharing.slots_of(hosting, spec, parts, backend)
        if dry_run:
            _show_plan(spec, parts, sharing.planned(slots, spec, parts), as_json=as_json)
            return None
        if found is not None:
            before = "done already" if found.state == "done" else f"begun {found.started_at:%Y-%m-%d %H:%M} UTC"
            print(f"going on with what was {before}: seed {spec.seed}", file=sys.stderr)
        asked = found or sharing.begun(ledger, home, settings, ask, spec)
        with shown() as tell:
            doing = Playing(hosting, settings, asked, slots, profile=ask.get("profile"), state=state)
            return doing.run(tell)


def _show_plan(spec: SelfplaySpec, parts: int, hosts: list[dict[str, Any]], *, as_json: bool) -> None:
    where = ", ".join(one["host"] for one in hosts)
    plan = {"stage": "selfplay", "host": where, "parts": parts}
    if as_json:
        print_json(plan | {"hosts": hosts, "spec": spec.model_dump(mode="json")})
        return
    print_fields(plan | spec.model_dump(mode="json"))
    print()
    columns = ("host", "jobs", "parts", "games", "games/s, measured")
    print_table(columns, [list(one.values()) for one in hosts])


@contextmanager
def shown(*, live: bool | None = None) -> Iterator[Callable[[Picture], object]]:
    """Yield what shows pictures on stderr: a live table on a terminal (or as ``live`` says), else lines."""
    if not (sys.stderr.isatty() if live is None else live):
        yield _PlainLines()
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), auto_refresh=False) as screen:
        yield lambda picture: screen.update(_table(picture), refresh=True)


class _PlainLines:
    def __init__(self) -> None:
        self._printed = -_PLAIN_SECONDS
        self._over = False
        self._noted = 0

    def __call__(self, picture: Picture) -> None:
        for note in picture.notes[self._noted :]:
            print(note, file=sys.stderr, flush=True)
        self._noted = len(picture.notes)
        now = time.monotonic()
        over = picture.games == picture.total and not any(one.parts for one in picture.hosts)
        if now - self._printed >= _PLAIN_SECONDS or (over and not self._over):
            self._printed, self._over = now, over
            hosts = "; ".join(
                f"{one.host} {one.games}" + (f", {one.rate:.1f}/s" if one.rate else "") + f", {one.state}"
                for one in picture.hosts
            )
            print(f"{_headline(picture)} ({hosts})", file=sys.stderr, flush=True)


def _headline(picture: Picture) -> str:
    words = [f"selfplay {picture.config}: {picture.games}/{picture.total} games"]
    if picture.rate > 0.0:
        words.append(f"{picture.rate:,.1f} games/s")
        words.append(f"{duration(round((picture.total - picture.games) / picture.rate))} left")
    return ", ".join(words)


def _table(picture: Picture) -> Any:
    from rich.table import Table

    notes = "\n".join(picture.notes[-3:]) or None
    table = Table(
        title=_headline(picture), title_justify="left", box=None, padding=(0, 2), caption=notes, caption_justify="left"
    )
    for name, justify in (("host", "left"), ("games", "right"), ("games/s", "right"), ("jobs", "right"), ("", "left")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]  # rich's literal
    for one in picture.hosts:
        table.add_row(one.host, str(one.games), f"{one.rate:.1f}" if one.rate else "-", str(one.parts), one.state)
    return table
