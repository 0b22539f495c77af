"""What a command's self-play is cut into, who may play it, and which command it is (R62): nothing is played here."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from ringrift_ops.errors import InfrastructureError, UsageError
from ringrift_ops.games.writer import BatchExistsError
from ringrift_ops.home import Home
from ringrift_ops.hosts.folder import locked
from ringrift_ops.hosts.jobs import checked_job_id
from ringrift_ops.ledger import HERE, Ledger, Play, Slot, asked_key, derived_seed, divided
from ringrift_ops.settings import PARTS_FOLDER, PLAY, Settings, config_named
from ringrift_ops.stages.hosting import Hosting
from ringrift_ops.stages.placement import slots_for
from ringrift_ops.stages.specs import SelfplaySpec, Stage

Backend = Literal["local", "ssh"]


class NoHostsError(UsageError):
    """Hosts were asked for, and the inventory has none that plays."""


class OtherStateError(UsageError):
    """The state file is of another command that is not over yet."""


class PlayBusyError(InfrastructureError):
    """Another process does this very command."""


def parts_of(settings: Settings, spec: SelfplaySpec) -> int:
    """Return into how many parts a command's games are cut: by their number, whatever hosts there are."""
    row, asked = config_named(spec.config), settings.pipeline.selfplay.games_per_worker
    least = PLAY.least_large_games if row.large else PLAY.least_games
    each = asked or min(max(math.ceil(spec.games / PLAY.parts), least), PLAY.most_games)
    return math.ceil(spec.games / each)


def part_spec(play: Play, shard: int) -> SelfplaySpec:
    """Return what one part is asked; its file lies in a folder of the command's, here and on hosts."""
    whole = SelfplaySpec.model_validate(play.spec)
    share, rest = divmod(whole.games, play.shards)
    return whole.model_copy(
        update={
            "shard": shard,
            "games": share + (shard < rest),
            "seed": derived_seed(whole.seed, Stage.SELFPLAY.value, shard),
            "output": f"{folder_of(play)}/s{shard:05}.db",
        }
    )


def part_job(play: Play, shard: int) -> str:
    """Return the one name of a part's job."""
    return checked_job_id(f"{play.config}-x{play.id[:12]}-{Stage.SELFPLAY.value}-s{shard}")


def folder_of(play: Play) -> str:
    """Return where a command's parts lie until they are one, below the home, here and on hosts."""
    return f"{PARTS_FOLDER}/{play.id[:12]}"


def slots_of(hosting: Hosting, spec: SelfplaySpec, parts: int, backend: Backend) -> list[Slot]:
    """Return the hosts that play, with what a part takes there as last measured. Raises :class:`NoHostsError`."""
    if backend == "local":
        slots = [Slot(HERE, os.cpu_count() or 1)]
    else:
        by_ssh = set(hosting.inventory.reached_by(ssh=True))
        slots = [slot for slot in slots_for(hosting.inventory, Stage.SELFPLAY, spec) if slot.host in by_ssh]
    if not slots:
        raise NoHostsError(
            f"--backend ssh: no host of role selfplay or mixed in {hosting.home.inventory}; write it, see docs/hosts.md"
        )
    return hosting.measured(slots, spec.model_copy(update={"games": math.ceil(spec.games / parts)}))


def taken_up(ledger: Ledger, home: Home, ask: Mapping[str, Any], state: Path | None) -> Play | None:
    """Return the command that asked the same and is not over, or whose games lie where they are wanted; else None.

    ``state``: a file that names the command it was written by. Raises :class:`OtherStateError`.
    """
    named = _named_in(state)
    found = None if named is None else ledger.play(named)
    if found is not None and found.asked == asked_key(ask):
        return found
    if found is not None and found.state != "done":
        raise OtherStateError(
            f"{state} is of another command that is not over: {found.spec['games']} games of {found.config}; "
            "give that command again, or another --state"
        )
    for play in ledger.plays(asked=asked_key(ask), limit=1):
        output = ask.get("output")
        if play.state == "playing" or (output is not None and home.resolve(str(output)).exists()):
            return play
    return None


def _named_in(state: Path | None) -> str | None:
    """Return the command that a state file names, None when it is no such file."""
    if state is None or not state.is_file():
        return None
    try:
        said = json.loads(state.read_text(encoding="utf-8"))
    except ValueError:
        return None
    return said["play"] if isinstance(said, dict) and isinstance(said.get("play"), str) else None


@contextmanager
def alone(home: Home, ask: Mapping[str, Any]) -> Iterator[None]:
    """Be the only process that does what was asked, for the block. Raises :class:`PlayBusyError`."""
    locks = home.root / ".locks"
    locks.mkdir(parents=True, exist_ok=True)
    with locked(locks / f"play-{asked_key(ask)[:16]}", wait=False) as mine:
        if not mine:
            raise PlayBusyError(
                "another process does this very command; wait for it, or ask for other games with --seed or --output-db"
            )
        yield


def begun(ledger: Ledger, home: Home, settings: Settings, ask: Mapping[str, Any], spec: SelfplaySpec) -> Play:
    """Note a new command and return it. Raises ``BatchExistsError`` when something else lies at its output."""
    if spec.output is not None and home.resolve(spec.output).exists():
        raise BatchExistsError(f"{spec.output} exists already; name another --output-db, or read that one")
    return ledger.begin_play(ask, spec.model_dump(mode="json"), parts_of(settings, spec))


def planned(slots: Sequence[Slot], spec: SelfplaySpec, parts: int) -> list[dict[str, Any]]:
    """Return {"host", "jobs", "parts", "games", "games_per_second"} for each host: what it would play, were it free."""
    share, each = divided(slots, parts), math.ceil(spec.games / parts)
    return [
        {
            "host": slot.host,
            "jobs": slot.capacity,
            "parts": share[slot.host],
            "games": round(spec.games * share[slot.host] / parts),
            "games_per_second": None if slot.seconds is None else round(slot.capacity * each / slot.seconds, 2),
        }
        for slot in slots
    ]
