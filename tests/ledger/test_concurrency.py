"""Real processes that race for the same row: exactly one wins, and none is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ringrift_ops.ledger import Ledger, Outcome

PRELUDE = """
import json, os, sys, time
from datetime import UTC, datetime
from ringrift_ops.errors import RingRiftError
from ringrift_ops.ledger import Ledger, Outcome, generation_lease
url, me, gate = sys.argv[1:4]
NOW = datetime(2026, 1, 1, tzinfo=UTC)
open(os.path.join(gate, me), "w").close()
while not os.path.exists(os.path.join(gate, "go")):
    time.sleep(0.001)
"""


def race(tmp_path: Path, url: str, body: str, racers: int = 2) -> list[Any]:
    """Run ``body`` in so many processes, let go at the same moment; return the JSON each printed."""
    gate = tmp_path / "gate"
    gate.mkdir()
    processes = [
        subprocess.Popen([sys.executable, "-c", PRELUDE + body, url, f"p{number}", str(gate)],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for number in range(racers)
    ]  # fmt: skip
    while len(list(gate.iterdir())) < racers and all(process.poll() is None for process in processes):
        pass
    (gate / "go").touch()
    answers = []
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        answers.append(json.loads(out))
    return answers


def test_two_processes_race_for_a_lease(url: str, tmp_path: Path) -> None:
    body = """
try:
    print(json.dumps(["won", Ledger.open(url).acquire_lease("x", me).token]))
except RingRiftError as error:
    print(json.dumps(["lost", error.holder]))
"""
    answers = race(tmp_path, url, body, racers=3)
    assert sorted(answer[0] for answer in answers) == ["lost", "lost", "won"]
    winner = next(f"p{number}" for number, answer in enumerate(answers) if answer[0] == "won")
    assert {answer[1] for answer in answers if answer[0] == "lost"} == {winner}


def test_many_processes_make_one_generation(url: str, tmp_path: Path) -> None:
    body = """
ledger = Ledger.open(url)
print(json.dumps([ledger.ensure_generation("hex8_2p", NOW, me, NOW, "tiny").id for _ in range(5)]))
"""
    answers = race(tmp_path, url, body, racers=3)
    assert len({number for answer in answers for number in answer}) == 1
    assert len(Ledger.open(url).generations()) == 1


def test_the_canonical_pointer_moves_once_for_two_that_saw_the_same_one(bench: Any, url: str, tmp_path: Path) -> None:
    one, lease = bench.running("one")
    bench.promote("base", one, lease)
    base = bench.ledger.canonical("hex8_2p").sha
    nets = [bench.net(f"net{number}", one, lease) for number in range(2)]
    rows = [bench.evaluation(f"net{number}", one, lease, base) for number in range(2)]
    body = f"""
nets, rows, base = {nets!r}, {rows!r}, {base!r}
number = int(me[1:])
try:
    made = Ledger.open(url).compare_and_swap_canonical(
        "hex8_2p", base, nets[number], {lease.token}, generation={one.id}, reason="won", actor=me,
        evaluation=rows[number])
    print(json.dumps(["won", made.sha]))
except RingRiftError as error:
    print(json.dumps(["lost", type(error).__name__]))
"""
    answers = sorted(race(tmp_path, url, body))
    assert answers[0] == ["lost", "CanonicalMovedError"]
    assert answers[1] == ["won", bench.ledger.canonical("hex8_2p").sha]
    assert len(bench.ledger.promotions("hex8_2p")) == 2


def test_waiting_runs_are_served_in_order_by_their_own_processes(url: str, tmp_path: Path) -> None:
    ledger = Ledger.open(url)
    body = """
from datetime import timedelta
ledger = Ledger.open(url)
number = int(me[1:])
mine = ledger.ensure_generation("hex8_2p", NOW - timedelta(days=number), me, NOW, "tiny")
open(os.path.join(gate, me + "-waits"), "w").close()
while len([name for name in os.listdir(gate) if name.endswith("-waits")]) < 3:
    time.sleep(0.001)
while (lease := ledger.try_grant_generation(mine.id)) is None:
    time.sleep(0.005)
ledger.record_stage_result(mine.id, "selfplay", 0, {}, {"games": 1}, lease.token)
ledger.finish_generation(mine.id, Outcome.PARTIAL, "done", lease.token)
print(json.dumps(lease.token))
"""
    assert race(tmp_path, url, body, racers=3) == [3, 2, 1]
    assert [g.number for g in sorted(ledger.generations(), key=lambda g: g.logical_date or g.run_after)] == [1, 2, 3]
    assert {g.outcome for g in ledger.generations()} == {Outcome.PARTIAL}


def test_a_new_ledger_is_made_once_by_all_who_need_it(tmp_path: Path) -> None:
    body = """
print(json.dumps(Ledger.open(url).ensure_generation("hex8_2p", None, me, NOW, "tiny").id))
"""
    assert sorted(race(tmp_path, f"sqlite:///{tmp_path}/new/ledger.db", body, racers=4)) == [1, 2, 3, 4]


def test_F19_a_writer_killed_inside_its_transaction_leaves_nothing(url: str) -> None:
    script = """
import os, signal, sys
from datetime import UTC, datetime
from ringrift_ops.ledger import Ledger, events
from ringrift_ops.ledger import generations
generations.find = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
Ledger.open(sys.argv[1]).ensure_generation("hex8_2p", None, "a", datetime(2026, 1, 1, tzinfo=UTC), "tiny")
"""
    killed = subprocess.run([sys.executable, "-c", script, url], check=False)
    assert killed.returncode == -9
    ledger = Ledger.open(url)
    assert ledger.generations() == []
    assert ledger.acquire_lease("x", "next").token == 1


@pytest.mark.parametrize("size", [1, 2000])
def test_a_lineage_of_many_games_is_one_answer(sqlite_bench: Any, size: int) -> None:
    ledger: Ledger = sqlite_bench.ledger
    names = [f"{number:064x}" for number in range(size)]
    with ledger._writing() as connection:
        from ringrift_ops.ledger import schema

        rows = [
            {"sha": name, "kind": "games", "path": "p", "bytes": 1, "config": "hex8_2p", "generation": None,
             "meta": {"games": 1, "moves": 1}, "created_at": sqlite_bench.now}
            for name in names
        ]  # fmt: skip
        connection.execute(schema.artifacts.insert(), rows)
    ledger.record_artifact(
        "f" * 64, "dataset", "d", 1, "hex8_2p", None, parents=[(name, "games") for name in names],
        meta={"samples": 1}, token=0,
    )  # fmt: skip
    assert len(ledger.lineage("f" * 64).ancestors) == size
