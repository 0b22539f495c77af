"""The situations that sections of the runbook pages describe, each really brought about on a running platform.

A situation is a context: on entry it is as the page says, on exit the cause is gone (nothing else is mended: that is
the page's work). It yields the shell variables that the page's commands use.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.airflow.conftest import until
from tests.runbooks.ground import CONFIG, SECONDS, Ground

Variables = dict[str, str]
Situation = Callable[[Ground], AbstractContextManager[Variables]]

SITUATIONS: dict[str, Situation] = {}
SOME = {"epochs": 1000, "checkpoint_every_steps": 50}
"""A training of some ten seconds."""
LONG = {"epochs": 1000, "batch_size": 8, "checkpoint_every_steps": 50}
"""A training that lasts until something happens to it."""


def situation(make: Callable[[Ground], Iterator[Variables]]) -> Situation:
    """Register a generator function as a situation under its name."""
    found = contextmanager(make)
    SITUATIONS[make.__name__] = found
    return found


def ended(ground: Ground) -> bool:
    return not ground.under_way()


@situation
def quiet(ground: Ground) -> Iterator[Variables]:
    """A generation has ended, nothing runs, nothing is wrong."""
    ground.generation()
    yield {"JOB": ground.job("train")}


@situation
def memory_gone(ground: Ground) -> Iterator[Variables]:
    """Every attempt of a training really runs out of memory, and the remedy is off."""
    ground.generation()
    ground.settings(**SOME, remedies=[])
    ground.start(f"ringrift start {CONFIG}")
    stop = threading.Event()

    def squeeze() -> None:
        seen: set[int] = set()
        while not stop.wait(0.05):
            with suppress(AssertionError, psutil.Error, OSError):
                one = ground.stepping()
                if one is not None and one.pid not in seen:
                    one.rlimit(psutil.RLIMIT_AS, (one.memory_info().vms - 1, -1))
                    seen.add(one.pid)

    thread = threading.Thread(target=squeeze)
    thread.start()
    try:
        until("the training has failed for good", SECONDS, lambda: ended(ground))
    finally:
        stop.set()
        thread.join()
    yield {"JOB": ground.job("train")}


@situation
def memory_tight(ground: Ground) -> Iterator[Variables]:
    """For a while a training really has less memory than its steps take, and the remedy is on."""
    ground.generation()
    ground.type(f"ringrift selfplay --config {CONFIG} --num-games 300")
    ground.type(f"ringrift parity --config {CONFIG}")
    # Steps of so many samples take memory anew each time.
    ground.settings(epochs=1000, batch_size=4096)
    ground.start(f"ringrift trigger {CONFIG} export --following --force --reason 'more games'")
    one, began = ground.training(), time.monotonic()
    sizes: list[int] = []
    while time.monotonic() < began + 1:
        sizes.append(one.memory_info().vms)
    one.rlimit(psutil.RLIMIT_AS, (min(sizes) + (max(sizes) - min(sizes)) // 10, -1))
    beats = ground.home.job(ground.job("train")) / "heartbeat.jsonl"
    until("the training has mended itself", SECONDS, lambda: "is done again with" in beats.read_text())
    one.rlimit(psutil.RLIMIT_AS, (-1, -1))
    until("the training is over", SECONDS, lambda: ended(ground))
    yield {"JOB": ground.job("train")}


@situation
def checkpoint_corrupt(ground: Ground) -> Iterator[Variables]:
    """A training died, its checkpoints are damaged, and the remedy is off."""
    ground.generation()
    ground.settings(**SOME, remedies=[])
    ground.start(f"ringrift start {CONFIG}")
    since = ground.training().create_time()
    folder = until("it has checkpoints", SECONDS, lambda: _checkpoints(ground, since))
    _kill_in(ground)
    for path in folder.glob("checkpoint*"):
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-100])
    until("the training has failed for good", SECONDS, lambda: ended(ground))
    yield {"JOB": ground.job("train")}


def _checkpoints(ground: Ground, since: float) -> Path | None:
    """Return the folder of the checkpoints that were written since then."""
    found = [one for one in ground.home.training.glob("checkpoints/*/checkpoint*") if one.stat().st_mtime > since]
    newest = max(found, key=lambda one: one.stat().st_mtime_ns, default=None)
    return None if newest is None or newest.suffix == ".corrupt" else newest.parent


def _kill_in(ground: Ground) -> None:
    """Kill the training's own process as a machine would."""
    one = ground.process(ground.job("train"))
    assert one is not None
    one.send_signal(signal.SIGKILL)


@situation
def lock_held(ground: Ground) -> Iterator[Variables]:
    """Somebody marked a run failed, its last task first: nothing of it is alive, and it has not given back its lock."""
    ground.generation()
    ground.settings(**LONG)
    ground.start(f"ringrift trigger {CONFIG} train --force --reason 'the usual training'")
    ground.training()
    run_id = str(ground.under_way()[0]["dag_run_id"])
    ground.api.patch(f"/dags/{CONFIG}/dagRuns/{run_id}/taskInstances/finish", {"new_state": "failed"})
    ground.api.end_run(CONFIG, run_id)
    until("the run has ended", SECONDS, lambda: ended(ground))
    for one in psutil.process_iter(["cwd"]):
        if one.info["cwd"] == str(ground.home.job(ground.job("train"))):
            with suppress(psutil.Error):
                one.kill()
    ground.settings()
    ground.start(f"ringrift start {CONFIG}")
    until("the next run waits", 90, lambda: any(w.condition.value == "lease" for w in ground.ledger.waits(CONFIG)))
    yield {}


@situation
def disk_full(ground: Ground) -> Iterator[Variables]:
    """Somebody's file has filled the disk, and a generation was asked for."""
    if not os.path.ismount(ground.home.root):
        pytest.skip("only root mounts a small disk to fill")
    ground.generation()
    filler = ground.home.root / "core.4711"
    free = os.statvfs(ground.home.root)
    left = 30 * 10**6
    with filler.open("wb") as out:
        for _ in range((free.f_bavail * free.f_frsize - left) // 10**6):
            out.write(b"\0" * 10**6)
    ground.start(f"ringrift start {CONFIG}")
    until("the generation has failed", SECONDS, lambda: ended(ground))
    yield {}
    filler.unlink(missing_ok=True)


@situation
def parity_failed(ground: Ground) -> Iterator[Variables]:
    """A move of a recorded game was altered on the disk, and parity has found it."""
    ground.generation()
    ground.start(f"ringrift trigger {CONFIG} selfplay")
    ground.over()
    path = max(ground.home.games.glob(f"selfplay_{CONFIG}_g*_s0.db"), key=lambda one: one.stat().st_mtime_ns)
    _alter(path)
    ground.start(f"ringrift trigger {CONFIG} parity")
    ground.over()
    bundles = sorted(ground.home.parity.rglob("*.json"), key=lambda one: one.stat().st_mtime_ns)
    batch = next(
        one.sha for one in ground.ledger.artifacts(config=CONFIG, kind="games") if one.path.endswith(path.name)
    )
    yield {"BUNDLE": str(bundles[-1]) if bundles else "", "BATCH": batch[:12]}


def _alter(path: Path) -> None:
    path.chmod(0o644)
    with sqlite3.connect(path) as connection:
        game, number, text = connection.execute(
            "SELECT game_id, move_number, move_json FROM game_moves WHERE move_type = 'move_stack' LIMIT 1"
        ).fetchone()
        move = json.loads(text)
        move["to"] = move["from"]
        connection.execute(
            "UPDATE game_moves SET move_json = ? WHERE game_id = ? AND move_number = ?",
            (json.dumps(move), game, number),
        )
    connection.close()


@situation
def nothing_played(ground: Ground) -> Iterator[Variables]:
    """A config that has no games."""
    for path in ground.home.games.glob("selfplay_square8_3p_*"):
        path.unlink()
    yield {}


@situation
def too_few_games(ground: Ground) -> Iterator[Variables]:
    """A run waits for more games than there are."""
    ground.generation()
    ground.settings(window_minimum_rows=10_000_000)
    ground.start(f"ringrift start {CONFIG}")
    until("it waits for games", SECONDS, lambda: any(w.condition.value == "games" for w in ground.ledger.waits(CONFIG)))
    yield {}


@situation
def cooling_down(ground: Ground) -> Iterator[Variables]:
    """A training has just ended, and the profile has a cooldown."""
    ground.generation()
    ground.settings(cooldown_seconds=3_600)
    yield {}


@situation
def hung_training(ground: Ground) -> Iterator[Variables]:
    """A training stands still: its process is there and does nothing."""
    ground.generation()
    ground.settings(**LONG)
    ground.start(f"ringrift trigger {CONFIG} train --force --reason 'the usual training'")
    one = ground.training()
    time.sleep(3)
    one.suspend()
    try:
        until("it is known to hang", SECONDS, lambda: "hung" in "".join(ground.type(f"ringrift diagnose {CONFIG}")))
        yield {"JOB": ground.job("train")}
    finally:
        with suppress(psutil.Error):
            one.resume()


@situation
def training_under_way(ground: Ground) -> Iterator[Variables]:
    """A training makes its steps."""
    ground.generation()
    ground.settings(**LONG)
    ground.start(f"ringrift trigger {CONFIG} train --force --reason 'the usual training'")
    ground.training()
    yield {"JOB": ground.job("train")}


@situation
def destination_away(ground: Ground) -> Iterator[Variables]:
    """The folder that nets are delivered to is a file, and a delivery was tried."""
    _promoted(ground)
    _blocked(ground)
    ground.start(f"ringrift trigger {CONFIG} distribute --force --reason 'a new destination'")
    until("the delivery has failed for good", SECONDS, lambda: ended(ground))
    yield {}


@situation
def breaker_open(ground: Ground) -> Iterator[Variables]:
    """A delivery has failed by infrastructure so often that it is not tried any more."""
    _promoted(ground)
    _blocked(ground)
    for _ in range(2):  # four attempts each
        ground.start(f"ringrift trigger {CONFIG} distribute --force --reason 'a new destination'")
        until("the delivery has failed for good", SECONDS, lambda: ended(ground))
    yield {}


def _blocked(ground: Ground) -> None:
    outbox = ground.home.root / "outbox"
    if outbox.is_dir():
        shutil.rmtree(outbox)
    outbox.write_text("a file")
    ground.settings(destinations=[str(outbox)])


def _promoted(ground: Ground) -> None:
    """Make sure that a net is in force, by force: the gauntlet of the profile tiny can only say no."""
    ground.generation()
    if ground.ledger.canonical(CONFIG) is None:
        net = ground.ledger.artifacts(config=CONFIG, kind="weights")[-1].sha
        ground.type(f"ringrift promote --force --model {net} --config {CONFIG} --reason 'a start'")


@situation
def promoted_twice(ground: Ground) -> Iterator[Variables]:
    """Two nets were promoted, one after the other."""
    _promoted(ground)
    first = ground.ledger.canonical(CONFIG)
    assert first is not None
    other = next(one for one in ground.ledger.artifacts(config=CONFIG, kind="weights") if one.sha != first.sha)
    ground.type(f"ringrift promote --force --model {other.sha} --config {CONFIG} --reason 'looked better'")
    yield {}


@situation
def links_wrong(ground: Ground) -> Iterator[Variables]:
    """Somebody led a link of the net in force elsewhere."""
    _promoted(ground)
    link = ground.home.canonical_link(CONFIG)
    link.unlink(missing_ok=True)
    link.symlink_to("elsewhere.safetensors")
    yield {}


@situation
def dataset_damaged(ground: Ground) -> Iterator[Variables]:
    """The newest dataset was cut short on the disk, and a training was started on it."""
    ground.generation()
    ground.start(f"ringrift trigger {CONFIG} export --force --reason 'more games'")
    ground.over()
    path = ground.home.resolve(ground.ledger.artifacts(config=CONFIG, kind="dataset")[0].path)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    ground.start(f"ringrift trigger {CONFIG} train")
    until("the training has failed", SECONDS, lambda: ended(ground))
    yield {}


@situation
def diverging(ground: Ground) -> Iterator[Variables]:
    """Every gradient is far above what is clipped at: none of its steps is a good one."""
    ground.generation()
    ground.settings(batch_size=8, clip_norm=0.0001)
    ground.start(f"ringrift trigger {CONFIG} train")
    until("the training is over", SECONDS, lambda: ended(ground))
    yield {}


@situation
def alert(ground: Ground) -> Iterator[Variables]:
    """A file has filled the disk, and the DAG `alerts` has looked."""
    with disk_full(ground):
        ground.api.patch("/dags/alerts", {"is_paused": False})
        found = until("the incident is open", SECONDS, lambda: _of_the_disk(ground))
        ground.api.patch("/dags/alerts", {"is_paused": True})
        yield {"ID": str(found)}


def _of_the_disk(ground: Ground) -> int | None:
    opened = ground.ledger.incidents(firing=True)
    return next((one.id for one in opened if one.rule == "resource_use" and "disk" in one.summary), None)


@situation
def wrong_pipeline_file(ground: Ground) -> Iterator[Variables]:
    """A key of `config/pipeline_config.yaml` is misspelt."""
    ground.generation()
    path = ground.home.pipeline_file
    path.write_text("parity:\n  sampel_size: 0\n")
    yield {}
    path.unlink()
