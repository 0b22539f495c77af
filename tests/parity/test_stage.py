"""The parity stage on real batches: verdicts, gate, resumption after kill -9, and what bad input gets."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ringrift_ops.errors import GateError, NoDataError, RingRiftError, UsageError
from ringrift_ops.games.database import DatabaseBusyError, WrongConfigError
from ringrift_ops.games.reader import GameDatabase
from ringrift_ops.home import Home
from ringrift_ops.parity.bundles import MissingBundleError, NotABundleError, describe_bundle, read_bundle
from ringrift_ops.parity.verdicts import MARK, CheckedDatabase
from ringrift_ops.stages import parity
from ringrift_ops.stages.heartbeat import Heartbeat, silent
from ringrift_ops.stages.specs import ParityResult, ParitySpec
from ringrift_ops.store import Store
from tests.parity.mutations import Mutation, mutated_typescript
from tests.parity.played import parity_spec, random_records, written

CONFIG = "hex8_2p"


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    return written(tmp_path / "games.db", random_records(CONFIG, 12))


def change(path: Path, sql: str, *parameters: object) -> None:
    with sqlite3.connect(path) as connection:
        assert connection.execute(sql, parameters).rowcount > 0
    connection.close()


def statuses(path: Path) -> dict[str, str]:
    with GameDatabase(path) as database:
        return {game_id: database.parity_of(game_id).status for game_id in database.game_ids()}


def metadata(path: Path) -> dict[str, str]:
    connection = sqlite3.connect(path)
    found = dict(connection.execute("SELECT key, value FROM schema_metadata"))
    connection.close()
    return found


def report_of(result: ParityResult) -> dict[str, object]:
    content: dict[str, object] = json.loads(Store(Home.find()).get(result.report).read_bytes())
    return content


def test_F17_every_game_gets_a_verdict_and_only_then_is_the_batch_passed(batch: Path) -> None:
    with GameDatabase(batch) as database:
        digest = database.content_digest()
        assert list(database.game_ids(passed_only=True)) == []
    beats: list[Heartbeat] = []
    result = parity.run(parity_spec(CONFIG, batch), beats.append)
    assert (result.checked, result.failed, result.passed, result.failures) == (12, 0, True, [])
    with GameDatabase(batch) as database:
        assert database.verify() == digest, "verdicts do not change what a batch is"
        assert len(list(database.game_ids(passed_only=True))) == 12
        verdict = database.parity_of("random-hex8_2p-0003")
    assert verdict.divergence_move is None
    assert verdict.checked_at.endswith("+00:00")
    found = metadata(batch)
    assert found["parity_gate_status"] == "passed"
    assert (found["parity_gate_passed_count"], found["parity_gate_failed_count"]) == ("12", "0")
    assert MARK not in found
    assert (beats[0].done, beats[-1].done, beats[-1].total, beats[-1].unit) == (0, 12, 12, "games")
    report = report_of(result)
    assert report["passed_canonical_parity_gate"] is True
    assert report["total_games_checked"] == 12
    assert not batch.with_name(f".{batch.name}.parity.lock").exists()


def test_F20_a_move_that_was_tampered_with_is_found_and_its_game_is_not_used(batch: Path) -> None:
    parity.run(parity_spec(CONFIG, batch), silent)
    victim = "random-hex8_2p-0005"
    connection = sqlite3.connect(batch)
    number, text = connection.execute(
        "SELECT move_number, move_json FROM game_moves WHERE game_id = ? AND move_type = 'move_stack'", (victim,)
    ).fetchall()[0]
    connection.close()
    move = json.loads(text)
    move["to"] = move["from"]
    change(
        batch,
        "UPDATE game_moves SET move_json = ? WHERE game_id = ? AND move_number = ?",
        json.dumps(move),
        victim,
        number,
    )
    result = parity.run(parity_spec(CONFIG, batch), silent)
    assert not result.passed
    (failure,) = result.failures
    assert (failure.game_id, failure.move) == (victim, number)
    assert failure.kinds == ["illegal_python", "illegal_typescript"]
    assert statuses(batch)[victim] == "failed"
    assert list(statuses(batch).values()).count("passed") == 11
    with GameDatabase(batch) as database:
        assert victim not in set(database.game_ids(passed_only=True))
        assert database.parity_of(victim).divergence_move == number
    assert metadata(batch)["parity_gate_status"] == "failed"
    assert "is legal in neither engine" in describe_bundle(read_bundle(Path(failure.bundle)))


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("UPDATE game_moves SET move_json = '{' WHERE game_id = ? AND move_number = 6", "non_canonical_history"),
        ("UPDATE game_moves SET phase = 'capture' WHERE game_id = ? AND move_number = 0", "non_canonical_history"),
        (
            "UPDATE game_moves SET move_type = 'BUILD_STACK' WHERE game_id = ? AND move_number = 1",
            "non_canonical_history",
        ),
        ("DELETE FROM game_moves WHERE game_id = ? AND move_number = 9", "game_without_end"),
        ("UPDATE game_initial_state SET initial_state_json = '{}' WHERE game_id = ?", "non_canonical_history"),
        ("UPDATE games SET winner = 3 - winner WHERE game_id = ?", "recorded_result"),
        ("UPDATE game_players SET final_eliminated_rings = 1000 WHERE game_id = ?", "recorded_numbers"),
    ],
    ids=["not JSON", "phase", "legacy type", "move missing", "start", "winner", "numbers"],
)
def test_F20_a_record_that_is_no_game_fails_alone(batch: Path, sql: str, kind: str) -> None:
    victim = "random-hex8_2p-0002"
    change(batch, sql, victim)
    result = parity.run(parity_spec(CONFIG, batch), silent)
    assert (result.checked, result.failed, result.passed) == (12, 1, False)
    assert (result.failures[0].game_id, result.failures[0].kinds) == (victim, [kind])
    assert statuses(batch)[victim] == "failed"


def test_R69_the_threshold_says_how_many_may_fail(batch: Path) -> None:
    change(batch, "UPDATE games SET winner = 3 - winner WHERE game_id = ?", "random-hex8_2p-0002")
    assert not parity.run(parity_spec(CONFIG, batch), silent).passed
    lenient = parity.run(parity_spec(CONFIG, batch, fail_threshold=0.1), silent)
    assert lenient.passed
    assert statuses(batch)["random-hex8_2p-0002"] == "failed"


def test_R69_a_sample_is_drawn_with_the_seed_and_the_rest_stays_pending(batch: Path) -> None:
    def drawn(seed: int) -> set[str]:
        result = parity.run(parity_spec(CONFIG, batch, sample=4, seed=seed), silent)
        assert result.checked == 4
        return {game_id for game_id, status in statuses(batch).items() if status == "passed"}

    first = drawn(1)
    assert len(first) == 4
    assert drawn(1) == first
    assert drawn(2) != first


def test_a_game_at_which_the_engine_dies_is_an_error_and_all_others_are_judged(batch: Path, tmp_path: Path) -> None:
    script = mutated_typescript(
        tmp_path,
        Mutation(
            "dies",
            "",
            "server.ts",
            "  const moves = readMoves(request);\n  const { swapRule",
            "  const moves = readMoves(request);\n"
            "  if (JSON.stringify(moves).includes('0004-m30\"')) process.exit(9);\n  const { swapRule",
        ),
    )
    result = parity.run(parity_spec(CONFIG, batch), silent, script=script)
    assert (result.checked, result.failed, result.passed) == (12, 1, False)
    failure = result.failures[0]
    assert (failure.game_id, failure.move, failure.kinds) == ("random-hex8_2p-0004", 30, ["engine_crash"])
    assert "exit code 9" in describe_bundle(read_bundle(Path(failure.bundle)))
    assert statuses(batch)["random-hex8_2p-0004"] == "error"


CHILD = """
import sys
from ringrift_ops.stages import parity
from ringrift_ops.stages.specs import ParitySpec
def report(beat):
    print(beat.done, flush=True)
    if beat.done:
        sys.stdin.readline()
parity._FLUSH_GAMES, parity._BEAT_SECONDS = 1, 0.0
parity.run(ParitySpec.model_validate_json(sys.argv[1]), report)
"""


def test_a_killed_check_goes_on_with_the_games_it_has_not_passed(batch: Path, home: Path) -> None:
    spec = parity_spec(CONFIG, batch)
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, spec.model_dump_json()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        text=True,
    )
    assert child.stdout is not None
    assert child.stdin is not None
    for line in child.stdout:
        if int(line) >= 4:
            break
        if int(line):
            child.stdin.write("\n")
            child.stdin.flush()
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdin.close()
    child.stdout.close()
    before = {game_id for game_id, status in statuses(batch).items() if status == "passed"}
    assert 0 < len(before) < 12
    assert MARK in metadata(batch)
    change(batch, "UPDATE games SET parity_checked_at = 'earlier' WHERE parity_status = 'passed'")
    result = parity.run(spec, silent)
    assert (result.checked, result.failed, result.passed) == (12, 0, True)
    assert {_checked_at(batch, game_id) for game_id in before} == {"earlier"}, "passed games are not replayed again"
    assert set(statuses(batch).values()) == {"passed"}


def _checked_at(path: Path, game_id: str) -> str:
    with GameDatabase(path) as database:
        return database.parity_of(game_id).checked_at


def test_a_check_of_another_kind_begins_anew(batch: Path) -> None:
    with CheckedDatabase(batch, CONFIG, "some check") as database:
        assert not database.begin()
        assert database.begin()
    with CheckedDatabase(batch, CONFIG, "another check") as database:
        assert not database.begin()


def test_verdicts_of_other_tools_are_not_believed(batch: Path) -> None:
    change(batch, "UPDATE games SET parity_status = 'passed', winner = 3 - winner")
    assert parity.run(parity_spec(CONFIG, batch), silent).failed == 12


def test_two_checks_of_one_file_at_the_same_time_are_refused(batch: Path) -> None:
    with CheckedDatabase(batch, CONFIG, "first"), pytest.raises(DatabaseBusyError, match="another process checks"):
        parity.run(parity_spec(CONFIG, batch), silent)
    assert parity.run(parity_spec(CONFIG, batch), silent).passed


def test_several_databases_are_one_check(batch: Path, tmp_path: Path) -> None:
    second = written(
        tmp_path / "second.db", [replace(record, game_id=f"b-{record.game_id}") for record in random_records(CONFIG, 3)]
    )
    result = parity.run(parity_spec(CONFIG, batch, second), silent)
    assert result.checked == 15
    assert set(statuses(second).values()) == {"passed"}


def test_games_without_end_are_skipped_and_named(batch: Path) -> None:
    change(
        batch, "UPDATE games SET winner = NULL, termination_reason = 'timeout' WHERE game_id = ?", "random-hex8_2p-0001"
    )
    result = parity.run(parity_spec(CONFIG, batch), silent)
    assert (result.checked, result.passed) == (11, True)
    assert "random-hex8_2p-0001: game without end" in json.dumps(report_of(result)["databases"])
    with GameDatabase(batch) as database:
        assert database.parity_of("random-hex8_2p-0001").status == "skipped"


def test_R16_a_database_with_nothing_to_check_is_no_data_and_says_why(batch: Path) -> None:
    change(batch, "UPDATE games SET winner = NULL, termination_reason = 'timeout'")
    with pytest.raises(NoDataError, match=r"holds no complete game of hex8_2p; game random-hex8_2p-0000: game without"):
        parity.run(parity_spec(CONFIG, batch), silent)


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        (parity_spec(CONFIG), NoDataError),
        (parity_spec(CONFIG, Path("no/such.db")), NoDataError),
    ],
    ids=["no database", "missing"],
)
def test_R16_what_is_not_there_is_no_data(spec: ParitySpec, error: type[RingRiftError]) -> None:
    with pytest.raises(error):
        parity.run(spec, silent)


def test_a_file_of_another_config_is_wrong_usage(tmp_path: Path) -> None:
    other = written(tmp_path / "three.db", random_records("hex8_3p", 2))
    with pytest.raises(WrongConfigError, match="2 games of hex8_3p, none of hex8_2p") as caught:
        parity.run(parity_spec(CONFIG, other), silent)
    assert isinstance(caught.value, UsageError)
    assert not isinstance(caught.value, GateError)
    assert set(statuses(other).values()) == {"pending"}


def test_R69_a_file_that_is_no_bundle_is_wrong_usage(tmp_path: Path) -> None:
    other = tmp_path / "x.json"
    other.write_text("[1]")
    with pytest.raises(NotABundleError, match=r"x\.json is not a state bundle"):
        read_bundle(other)
    with pytest.raises(MissingBundleError):
        read_bundle(tmp_path / "nothing.json")
