"""How long it takes from ``make run`` in a fresh home to a promoted net: a real run, or one on record."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ringrift_ops.home import Home
from ringrift_ops.ledger import Event, EventType, Generation, Ledger
from tests.bench.figures import Row, Sheet
from tests.bench.machine import scratch, temporary_home
from tests.bench.scale import Scale
from tests.bench.speeds import CONFIG

SECONDS: Final = 300.0
RUN_SECONDS: Final = 1_800.0
NAME: Final = f"from `make run` to a promoted {CONFIG} net"

STEPS: Final = {
    EventType.SELFPLAY_COMPLETED: "self-play",
    EventType.PARITY_VALIDATION_COMPLETED: "parity",
    EventType.EXPORT_COMPLETED: "export",
    EventType.TRAINING_COMPLETED: "training",
    EventType.EVALUATION_COMPLETED: "gauntlet",
}


def first(scale: Scale) -> list[Row]:
    """Run ``make run`` (installed, compiled) and time it."""
    sheet = Sheet("first")
    log = scratch() / "first.log"
    with temporary_home() as home:
        environment = os.environ | {"CONFIG": CONFIG, "PROFILE": scale.profile, "STAY": "0"}
        began, moment = time.monotonic(), datetime.now(UTC)
        with log.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "ringrift_ops.platform", "run"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:
                code = process.wait(RUN_SECONDS)
            except subprocess.TimeoutExpired:
                process.terminate()
                code = process.wait(60)
        seconds = time.monotonic() - began
        _tell(sheet, home, moment, f"exit code {code}; what it printed: {log.name} in .ringrift/bench")
        sheet.add("the whole run, platform up and down", seconds, "s", better="lower")
    return sheet.rows


def recorded(folder: Path) -> list[Row]:
    """The same from the home of an earlier ``make run``, counted from the run's trigger."""
    sheet = Sheet("first")
    _tell(sheet, Home(folder.absolute()), None, "on record, counted from the trigger")
    return sheet.rows


def _tell(sheet: Sheet, home: Home, begun: datetime | None, note: str) -> None:
    """Add the figure of the config's first generation."""
    ledger = Ledger.open(home.ledger_url)
    generations = sorted(ledger.generations(CONFIG), key=lambda one: one.id)
    if not generations:
        sheet.add(NAME, None, "s", target=SECONDS, better="lower", note=f"no generation; {note}")
        return
    promoted = ledger.events(types=[EventType.MODEL_PROMOTED], config=CONFIG)
    generation = next((one for one in generations if promoted and one.id == promoted[0].generation), generations[0])
    begun = begun or generation.created_at
    told = ", ".join([*_steps(ledger, generation, begun), note])
    if not promoted:
        why = f"{generation.outcome}: {generation.reason}"
        sheet.add(NAME, None, "s", target=SECONDS, better="lower", note=f"not promoted ({why}); {told}")
        return
    sheet.add(NAME, _since(promoted[0], begun), "s", target=SECONDS, better="lower", note=told)


def _steps(ledger: Ledger, generation: Generation, begun: datetime) -> list[str]:
    """When each stage was through, in seconds after the beginning."""
    last: dict[str, float] = {}
    for event in ledger.events(types=list(STEPS), config=CONFIG, generation=generation.id):
        last[STEPS[EventType(event.type)]] = _since(event, begun)
    return [f"{name} done after {seconds:.0f} s" for name, seconds in last.items()]


def _since(event: Event, begun: datetime) -> float:
    return (event.at - begun).total_seconds()
