"""Self-play, parity and export as stages: what passes from one to the next, and what does not."""

from __future__ import annotations

from ringrift_ops.rules.compile import jit as _jit  # noqa: F401  isort: skip

import json
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from ringrift_ops.cli import main
from ringrift_ops.errors import ExitCode, RingRiftError
from ringrift_ops.games.database import DamagedDatabaseError, EmptyDatabaseError, MissingDatabaseError
from ringrift_ops.games.reader import GameDatabase
from ringrift_ops.games.writer import BatchMismatchError
from ringrift_ops.home import Home
from ringrift_ops.ledger import Ledger
from ringrift_ops.network.dataset import TRAINING, VALIDATION, EmptyDatasetError, open_dataset
from ringrift_ops.rules.layout import PHASE_NAMES
from ringrift_ops.stages import export, parity, selfplay, train
from ringrift_ops.stages.export import LostTargetsError, NoPassedGamesError
from ringrift_ops.stages.heartbeat import Heartbeat, last_heartbeat, silent
from ringrift_ops.stages.recording import open_ledger
from ringrift_ops.stages.selfplay import RepeatedGamesError
from ringrift_ops.stages.specs import SearchSettings
from ringrift_ops.store import Store, WriteError, sha256_file
from tests.stages.conftest import CONFIG, GAMES, Made, changed, export_spec, parity_spec, selfplay_spec, spec_file


def statement(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(sql)
        connection.commit()


# --- games ----------------------------------------------------------------------------------------


def test_F21_every_stage_gives_as_many_as_it_was_asked_for_and_says_where(made: Made) -> None:
    home = Home(made.root)
    assert made.played.games == GAMES
    with GameDatabase(home.resolve(made.played.path), CONFIG) as database:
        assert database.counts().complete == GAMES
        assert database.stored_digest == made.played.batch
    assert made.checked.checked == GAMES
    assert (made.checked.failed, made.checked.passed) == (0, True)
    assert made.exported.games + made.exported.duplicates_removed == GAMES
    dataset = open_dataset(home.resolve(made.exported.path), CONFIG)
    assert len(dataset) == made.exported.samples
    assert len(dataset.samples_of(TRAINING)) == made.exported.train_samples == made.trained.samples
    assert sha256_file(home.resolve(made.exported.path)) == made.exported.dataset


def test_F11_games_of_a_batch_are_distinct(made: Made) -> None:
    assert made.played.distinct_fraction >= 0.95


def test_F11_a_generations_batch_of_the_same_few_games_is_refused_and_not_on_record(home: Path) -> None:
    ledger = Ledger.open()
    run = ledger.ensure_generation(CONFIG, None, "run", datetime.now(UTC), "tiny")
    lease = ledger.try_grant_generation(run.id)
    assert lease is not None
    still = SearchSettings(simulations=0, temperature=0.0)
    spec = selfplay_spec(generation=run.id, token=lease.token, search=still, opening_plies=0, max_moves=5)
    with pytest.raises(RepeatedGamesError, match="are distinct"):
        selfplay.run(spec, silent)
    assert ledger.artifacts(kind="games") == []


def test_same_spec_plays_the_same_games_and_a_finished_batch_is_not_played_again(made: Made, house: Home) -> None:
    beats: list[Heartbeat] = []
    again = selfplay.run(made.selfplay, beats.append)
    assert (again.batch, beats) == (made.played.batch, [])
    with pytest.raises(BatchMismatchError, match="asked for otherwise"):
        selfplay.run(changed(made.selfplay, games=GAMES + 1), silent)
    house.resolve(made.played.path).unlink()
    assert selfplay.run(made.selfplay, silent).batch == made.played.batch


@pytest.mark.parametrize("player", ["heuristic", "convolutional net"])
def test_a_killed_selfplay_goes_on_and_no_game_is_lost_or_repeated(
    made: Made, house: Home, tmp_path: Path, player: str
) -> None:
    spec = selfplay_spec(games=150, seed=31)
    if player == "convolutional net":
        net = train.run(changed(made.train, family="convolutional", sizes={"blocks": 1, "channels": 8}), silent)
        spec = changed(
            spec, games=140, player="net", weights=net.weights, search={"simulations": 2, "temperature": 0.8}
        )
    heartbeat = tmp_path / "heartbeat.jsonl"
    command = ["-m", "ringrift_ops.cli", "selfplay", "--spec", str(spec_file(tmp_path, spec))]
    process = subprocess.Popen([sys.executable, *command, "--heartbeat", str(heartbeat)], stdout=subprocess.DEVNULL)
    while process.poll() is None and ((beat := last_heartbeat(heartbeat)) is None or beat.done == 0):
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not selfplay.batch_path(house, spec).exists()

    beats: list[Heartbeat] = []
    played = selfplay.run(spec, beats.append)
    assert played.games == spec.games
    with GameDatabase(house.resolve(played.path), CONFIG) as database:
        assert len(set(database.game_ids())) == spec.games
        assert database.verify() == played.batch
    if player == "heuristic":
        house.resolve(played.path).unlink()
        assert selfplay.run(spec, silent).batch == played.batch, "as if it had never been killed"


def test_R68_moves_are_recorded_in_the_games_real_phases(made: Made) -> None:
    with closing(sqlite3.connect(Home(made.root).resolve(made.played.path))) as connection:
        phases = {row[0] for row in connection.execute("SELECT DISTINCT phase FROM game_moves")}
    assert {"ring_placement", "movement", "line_processing", "territory_processing"} <= phases
    assert phases <= set(PHASE_NAMES) - {"game_over"}


# --- export ---------------------------------------------------------------------------------------


def test_F17_export_reads_only_games_that_parity_passed(made: Made, house: Home) -> None:
    database = house.resolve(made.played.path)
    for status, order in (("'failed'", "LIMIT 5"), ("NULL", "DESC LIMIT 3")):
        some = f"SELECT game_id FROM games ORDER BY game_id {order}"
        statement(database, f"UPDATE games SET parity_status = {status} WHERE game_id IN ({some})")
    fewer = export.run(export_spec(made.played.path), silent)
    assert fewer.unchecked_games == 8
    assert fewer.games + fewer.duplicates_removed == GAMES - 8


def test_F17_a_batch_that_was_never_checked_is_refused_and_nothing_is_written(house: Home) -> None:
    played = selfplay.run(selfplay_spec(games=3, seed=5), silent)
    before = sorted(house.training.rglob("*"))
    with pytest.raises(NoPassedGamesError, match="run `ringrift parity --config hex8_2p` first"):
        export.run(export_spec(played.path), silent)
    assert sorted(house.training.rglob("*")) == before


def test_F17_parity_finds_a_game_that_was_changed_and_export_leaves_it_out(house: Home) -> None:
    played = selfplay.run(selfplay_spec(games=4, seed=6), silent)
    path = house.resolve(played.path)
    with closing(sqlite3.connect(path)) as connection:
        (changed_game,) = connection.execute("SELECT min(game_id) FROM games").fetchone()
        connection.execute("UPDATE games SET winner = 3 - winner WHERE game_id = ?", (changed_game,))
        connection.commit()
    checked = parity.run(parity_spec(played.path), silent)
    assert (checked.failed, checked.passed) == (1, False)
    assert [one.game_id for one in checked.failures] == [changed_game]
    assert export.run(export_spec(played.path), silent).games == 3


def test_R16_a_game_that_fails_parity_is_told_in_one_line_that_names_the_bundle(
    house: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    path = house.resolve(selfplay.run(selfplay_spec(games=2, seed=6), silent).path)
    statement(path, "UPDATE games SET winner = 3 - winner WHERE game_id = (SELECT min(game_id) FROM games)")
    assert main(["parity", "--db", str(path), "--config", CONFIG, "--profile", "tiny"]) == ExitCode.GATE_SAID_NO
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ringrift:")]
    assert line.startswith("ringrift: Parity validation failed: 1 games failed parity check, 2 were checked; ")
    bundle = line.split("diff ")[1].split("`")[0]
    assert main(["parity", "diff", bundle]) == ExitCode.DONE


def test_F1_every_searched_decision_carries_its_policy(made: Made) -> None:
    assert made.exported.soft_target_fraction == 1.0
    assert made.exported.policy_samples == made.exported.samples
    dataset = open_dataset(Home(made.root).resolve(made.exported.path), CONFIG)
    sums = np.add.reduceat(np.asarray(dataset.policy_values), np.asarray(dataset.policy_indptr[:-1]))
    assert np.allclose(sums, 1.0, atol=1e-3)


@pytest.mark.parametrize(
    ("loss", "error"),
    [
        ("DELETE FROM ringrift_ops_policies", LostTargetsError),
        ("DELETE FROM ringrift_ops_policies WHERE substr(game_id, -1) = '3'", LostTargetsError),
        ("DROP TABLE ringrift_ops_policies", DamagedDatabaseError),
    ],
)
def test_F1_export_fails_when_a_batch_has_lost_its_policies(
    made: Made, house: Home, loss: str, error: type[RingRiftError]
) -> None:
    statement(house.resolve(made.played.path), loss)
    stored = sorted(house.store.rglob("*.npz"))
    with pytest.raises(error, match="polic"):
        export.run(changed(made.export, seed=12), silent)
    assert sorted(house.store.rglob("*.npz")) == stored


def test_R15_all_positions_of_a_game_are_in_one_split(made: Made) -> None:
    dataset = open_dataset(Home(made.root).resolve(made.exported.path), CONFIG)
    by_game = {(game, split) for game, split in zip(dataset.game.tolist(), dataset.split.tolist(), strict=True)}
    assert len(by_game) == made.exported.games
    assert {split for _, split in by_game} == {TRAINING, VALIDATION}


def test_R13_games_that_lie_in_two_databases_count_once(made: Made, house: Home) -> None:
    copy = house.games / "again.db"
    shutil.copy(house.resolve(made.played.path), copy)
    both = export.run(export_spec(made.played.path, str(copy)), silent)
    assert both.games == made.exported.games
    assert both.duplicates_removed == GAMES + made.exported.duplicates_removed


def test_R12_a_limited_export_takes_samples_of_every_game(made: Made, house: Home) -> None:
    limited = export.run(changed(made.export, max_samples=5 * GAMES), silent)
    dataset = open_dataset(house.resolve(limited.path), CONFIG)
    assert limited.samples <= 5 * GAMES
    assert len(np.unique(dataset.game)) == made.exported.games
    again = export.run(changed(made.export, max_samples=5 * GAMES), silent)
    other = export.run(changed(made.export, max_samples=5 * GAMES, seed=12), silent)
    assert again.dataset == limited.dataset != other.dataset


@pytest.mark.parametrize("most", [1, GAMES // 2, GAMES + 3, 7 * GAMES - 1])
def test_R12_a_limited_export_never_has_more_samples_than_asked_for(made: Made, house: Home, most: int) -> None:
    limited = export.run(changed(made.export, max_samples=most, split_ratio=0.99), silent)
    assert most - made.exported.duplicates_removed * 8 <= limited.samples <= most
    dataset = open_dataset(house.resolve(limited.path), CONFIG)
    by_game = np.bincount(dataset.game)
    assert len(by_game) == limited.games == min(most, made.exported.games)
    assert by_game.max() - by_game.min() <= 1, "as even as whole numbers are"


def test_R12_an_export_names_its_dataset_as_asked_and_the_store_keeps_it(
    made: Made, house: Home, tmp_path: Path
) -> None:
    named = tmp_path / "hex8_2p.npz"
    exported = export.run(changed(made.export, output=str(named), max_samples=50), silent)
    assert named.resolve() == house.resolve(exported.path) == Store(house).path(exported.dataset, ".npz")
    named.unlink()
    (kept,) = [
        one for one in open_ledger(house).artifacts(config=CONFIG, kind="dataset") if one.sha == exported.dataset
    ]
    assert sha256_file(house.resolve(kept.path)) == exported.dataset


def test_lineage_leads_from_the_net_to_its_games_and_its_evidence(made: Made, house: Home) -> None:
    lineage = Ledger.open().lineage(made.trained.weights)
    ancestors = {one.artifact.sha for one in lineage.ancestors}
    assert {made.exported.dataset, made.played.batch} <= ancestors
    assert made.judged.report in {one.artifact.sha for one in lineage.descendants}


# --- bad input ------------------------------------------------------------------------------------


def test_R16_no_games_found_is_told_with_exit_code_3(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--use-discovery", "--config", CONFIG]) == ExitCode.NO_DATA
    assert "No games found" in capsys.readouterr().err
    with pytest.raises(MissingDatabaseError, match="no game database"):
        export.run(export_spec("data/games/none.db"), silent)
    Home(home).ensure()
    (home / "data/games/empty.db").touch()
    with pytest.raises(EmptyDatabaseError, match="0 bytes"):
        export.run(export_spec("data/games/empty.db"), silent)


def test_R16_games_stopped_at_their_cap_give_no_samples_and_are_told_so(house: Home) -> None:
    played = selfplay.run(selfplay_spec(games=3, seed=9, max_moves=20), silent)
    assert parity.run(parity_spec(played.path), silent).passed
    with pytest.raises(EmptyDatasetError, match="no samples in 3 games that passed parity: 3 of them have no winner"):
        export.run(export_spec(played.path), silent)


def test_R16_games_that_failed_parity_are_told_and_leave_no_dataset(made: Made, house: Home) -> None:
    statement(house.resolve(made.played.path), "UPDATE games SET parity_status = 'failed'")
    with pytest.raises(NoPassedGamesError, match="has passed parity") as told:
        export.run(changed(made.export, seed=13), silent)
    assert told.value.exit_code == ExitCode.NO_DATA


def test_R16_a_place_that_cannot_be_written_is_told_with_exit_code_4(made: Made, house: Home) -> None:
    (house.root / "file").touch()
    for field in ("output", "dense"):
        with pytest.raises(WriteError, match="cannot write") as told:
            export.run(changed(made.export, **{field: "file/out.npz"}), silent)
        assert told.value.exit_code == ExitCode.INFRASTRUCTURE


def test_R16_a_disk_without_room_leaves_nothing_half_written(made: Made, house: Home, tmp_path: Path) -> None:
    spec = tmp_path / "spec.json"
    spec.write_text(changed(made.export, seed=14).model_dump_json())
    command = [sys.executable, "-m", "ringrift_ops.cli", "export", "--spec", str(spec), "--result", str(tmp_path / "r")]
    files = sorted(house.training.rglob("*")) + sorted(house.store.rglob("*"))
    limit = (100_000, 100_000)
    answer = subprocess.run(
        command, capture_output=True, text=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
    )  # fmt: skip
    assert answer.returncode == ExitCode.INFRASTRUCTURE, answer.stderr
    assert "cannot write" in answer.stderr
    assert sorted(house.training.rglob("*")) + sorted(house.store.rglob("*")) == files


def test_F22_export_needs_no_more_memory_for_ten_times_the_games(made: Made, house: Home) -> None:
    """Peak resident bytes of a process that exports the batch, and of one that exports ten of its kind."""
    source = house.resolve(made.played.path)
    copies = []
    for number in range(10):
        copy = house.games / f"copy{number}.db"
        shutil.copy(source, copy)
        statement(copy, f"UPDATE ringrift_ops_games SET move_hash = '{number}' || substr(move_hash, 2)")
        copies.append(str(copy))
    one, ten = (peak_of(export_spec(*paths, seed=len(paths))) for paths in ([made.played.path], copies))
    assert ten["samples"] == 10 * one["samples"]
    assert ten["peak"] < one["peak"] + 24_000_000


def peak_of(spec: export.ExportSpec) -> dict[str, int]:
    code = (
        "import json, resource, sys\n"
        "from ringrift_ops.stages import export\n"
        "from ringrift_ops.stages.heartbeat import silent\n"
        "spec = export.ExportSpec.model_validate_json(sys.argv[1])\n"
        "made = export.run(spec, silent)\n"
        "peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "print(json.dumps({'samples': made.samples, 'peak': peak}))\n"
    )
    command = [sys.executable, "-c", code, spec.model_dump_json()]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    found: dict[str, int] = json.loads(answer.stdout)
    return found
