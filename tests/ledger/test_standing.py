"""Where every config stands, who waits for what, and the sums that windows are cut by."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config

from ringrift_ops.ledger import Condition, EventType, Ledger, Outcome
from ringrift_ops.ledger.engine import MIGRATIONS, make_engine
from ringrift_ops.settings import CONFIGS
from tests.ledger.conftest import sha


def passed(bench: Any, name: str, generation: Any, lease: Any) -> None:
    bench.ledger.record_parity(
        sha(f"{name}-games"), sha(f"{name}-parity"), passed=True, checked=10, failed=1, generation=generation.id,
        token=lease.token,
    )  # fmt: skip


def test_every_config_stands_somewhere_and_the_running_generation_comes_first(bench: Any) -> None:
    generation, lease = bench.running("first")
    bench.promote("net", generation, lease)
    passed(bench, "net", generation, lease)
    bench.ledger.record_event(
        EventType.TRAINING_COMPLETED, "hex8_2p", generation.id,
        {"job_id": "j", "weights": sha("net"), "path": "p", "dataset": sha("d"), "parent": None, "samples": 1,
         "train_loss": 0.1, "validation_loss": 0.1}, now=bench.now,
    )  # fmt: skip
    waiting = bench.generation("second", after=60)
    bench.ledger.try_grant_generation(waiting.id, bench.now)
    stands = {one.config: one for one in bench.ledger.standings()}
    assert list(stands) == list(CONFIGS)
    mine = stands["hex8_2p"]
    assert mine.generation is not None
    assert mine.generation.run_id == "first"
    assert [one.run_id for one in mine.line] == ["second"]
    assert mine.lease is not None
    assert mine.lease.holder == "first"
    assert mine.canonical is not None
    assert mine.canonical.sha == sha("net")
    assert mine.evaluation is not None
    assert mine.evaluation.candidate == sha("net")
    assert (mine.rows.usable, mine.rows.new, mine.last_training) == (1000, 0, bench.now)
    assert stands["hex8_3p"].generation is None
    bench.ledger.finish_generation(generation.id, Outcome.PASS, "won", lease.token, bench.now)
    assert bench.ledger.standings("hex8_2p")[0].generation.run_id == "second"


def test_rows_are_new_until_a_net_was_trained_on_them(bench: Any) -> None:
    ledger: Ledger = bench.ledger
    generation, lease = bench.running()
    common: Any = {"size": 1, "config": "hex8_2p", "generation": generation.id, "token": lease.token}
    ledger.record_artifact(sha("a-games"), "games", "a", parents=[], meta={"games": 10, "moves": 600}, **common)
    passed(bench, "a", generation, lease)
    assert (ledger.usable_rows("hex8_2p"), ledger.new_rows("hex8_2p")) == (600, 600)
    assert ledger.games_in_window("hex8_2p")[0].games == 9
    ledger.record_artifact(sha("d"), "dataset", "d", parents=[(sha("a-games"), "games")], meta={"samples": 1}, **common)
    assert ledger.new_rows("hex8_2p") == 600
    ledger.record_artifact(sha("n"), "weights", "n", parents=[(sha("d"), "dataset")], meta={}, **common)
    assert (ledger.usable_rows("hex8_2p"), ledger.new_rows("hex8_2p")) == (600, 0)
    passed(bench, "a", generation, lease)
    assert ledger.new_rows("hex8_2p") == 0, "a second look at the same games makes them no newer"


def test_R28_a_wait_is_on_record_until_the_run_goes_on(bench: Any) -> None:
    ledger: Ledger = bench.ledger
    first, lease = bench.running("first")
    second = bench.generation("second", after=60)
    ledger.try_grant_generation(second.id, bench.now)
    since = bench.now
    ledger.try_grant_generation(second.id, bench.later(30))
    ledger.note_wait(first.id, "hex8_2p", Condition.GAMES, bench.now)
    told = [(one.run_id, one.condition, one.since, one.seen_at) for one in ledger.waits("hex8_2p")]
    assert told == [
        ("second", Condition.LEASE, since, bench.now),
        ("first", Condition.GAMES, bench.now, bench.now),
    ]
    ledger.end_wait(first.id, Condition.GAMES)
    ledger.note_wait(first.id, "hex8_2p", Condition.TRAINING, bench.now)
    ledger.finish_generation(first.id, Outcome.PARTIAL, "done", lease.token, bench.now)
    assert [one.run_id for one in ledger.waits()] == ["second"]
    assert ledger.try_grant_generation(second.id, bench.later(1)) is not None
    assert ledger.waits() == []
    assert bench.now - since == timedelta(seconds=31)


def test_a_ledger_of_the_first_version_keeps_its_sums(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    engine = make_engine(f"sqlite:///{path}")
    with engine.execution_options(ringrift_writes=True).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    with sqlite3.connect(path) as old:
        for name, kind, meta in (("a", "games", '{"games": 10, "moves": 700}'), ("d", "dataset", "{}"),
                                 ("n", "weights", "{}"), ("b", "games", '{"games": 5, "moves": 90}')):  # fmt: skip
            row = (name, kind, name, 1, "hex8_2p", None, meta, "2026-01-01 00:00:00")
            old.execute("INSERT INTO artifacts VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        old.executemany("INSERT INTO artifact_parents VALUES (?, ?, ?)", [("d", "a", "games"), ("n", "d", "dataset")])
        old.executemany(
            "INSERT INTO parity_verdicts VALUES (?, 'r', 1, 10, ?, '2026-01-01 00:00:00')", [("a", 2), ("b", 0)]
        )
    old.close()
    ledger = Ledger.open(f"sqlite:///{path}")
    assert (ledger.usable_rows("hex8_2p"), ledger.new_rows("hex8_2p")) == (790, 90)
    assert {batch.sha: batch.games for batch in ledger.games_in_window("hex8_2p")} == {"a": 8, "b": 5}
