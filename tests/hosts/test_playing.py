"""A command's self-play over hosts behind real sshds: shared out, taken up after a kill, the same games wherever."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ringrift_ops.cli import main
from ringrift_ops.cli.playing import shown
from ringrift_ops.errors import ExitCode
from ringrift_ops.games.reader import GameDatabase
from ringrift_ops.home import Home
from ringrift_ops.hosts import link as link_module
from ringrift_ops.hosts.folder import JobFolder
from ringrift_ops.hosts.jobs import Job
from ringrift_ops.hosts.local import LocalJobs
from ringrift_ops.hosts.processes import job_processes
from ringrift_ops.ledger import Ledger, Play, Slot
from ringrift_ops.operations.parts import folder_of, part_job, part_spec
from ringrift_ops.operations.playing import HostLine, Picture
from ringrift_ops.platform.processes import send
from ringrift_ops.settings import HOSTS, MOVING
from ringrift_ops.stages import fleet, moving
from ringrift_ops.stages import hosting as hosting_module
from ringrift_ops.stages.hosting import Hosting
from tests.hosts.sshd import Sshd, Sshds, until, write_inventory

CONFIG = "hex8_2p"
LONG = 300.0
"""Seconds for what takes a few on an idle machine."""
SMALL = "selfplay: {games_per_worker: 10}\n"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = HOSTS.model_copy(update={"again_seconds": 0.05, "connect_pause_seconds": 0.05, "lost_seconds": 2.0})
    monkeypatch.setattr(link_module, "HOSTS", quick)
    monkeypatch.setattr(hosting_module, "HOSTS", quick)


@pytest.fixture
def place(home: Path) -> Iterator[Home]:
    found = Home(home).ensure()
    found.pipeline_file.write_text(SMALL)
    yield found
    LocalJobs(found.jobs).kill_all()


def hosts_of(place: Home, made: dict[str, Sshd], **rows: object) -> None:
    write_inventory(
        place, {name: sshd.host(name, role="selfplay", max_parallel_jobs=1, **rows) for name, sshd in made.items()}
    )


@pytest.fixture
def pair(place: Home, sshds: Sshds) -> Iterator[dict[str, Sshd]]:
    made = {"one": sshds.make(), "two": sshds.make()}
    hosts_of(place, made)
    yield made
    for sshd in made.values():
        LocalJobs(sshd.work / "jobs").kill_all()
        sshd.stop()


@pytest.fixture
def spawn() -> Iterator[Callable[[list[str]], subprocess.Popen[bytes]]]:
    """Starts a command as a process of its own, which ends with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(command: list[str]) -> subprocess.Popen[bytes]:
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "ringrift_ops.cli", *command],
                stderr=subprocess.DEVNULL,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background shell has it ignored
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def words(place: Home, backend: str, games: int, output: Path, *more: str) -> list[str]:
    return [
        "pipeline", "run", "canonical_selfplay", "--backend", backend, "--board", "hex8", "--num-players", "2",
        "--num-games", str(games), "--output-db", str(output), "--profile", "tiny", "--seed", "11", *more,
    ]  # fmt: skip


def played(capsys: pytest.CaptureFixture[str], *command: str) -> dict[str, Any]:
    assert main([*command, "--json"]) == ExitCode.DONE
    shown: dict[str, Any] = json.loads(capsys.readouterr().out)
    return shown


def newest(place: Home) -> tuple[Ledger, Play]:
    ledger = Ledger.open()
    return ledger, ledger.plays(limit=1)[0]


def distinct_games(path: Path) -> int:
    with GameDatabase(path, CONFIG) as database:
        database.verify()
        assert len(set(database.game_ids())) == database.counts().complete
        return database.finished().distinct


def test_R62_the_same_command_plays_the_same_games_over_hosts_as_here(
    place: Home, pair: dict[str, Sshd], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state.json"
    planned = played(capsys, *words(place, "ssh", 20, tmp_path / "a.db", "--dry-run"))
    assert [(one["host"], one["parts"], one["games"]) for one in planned["hosts"]] == [("one", 1, 10), ("two", 1, 10)]
    over = played(capsys, *words(place, "ssh", 20, tmp_path / "a.db", "--state", str(state)))
    ledger, play = newest(place)
    there = ledger.play_shards(play.id)
    assert sorted(row.host for row in there) == ["one", "two"]
    assert sorted(ledger.host_rates(CONFIG, "heuristic, 0 simulations")) == ["one", "two"]
    told = json.loads(state.read_text())
    assert (told["phase_status"], told["games_completed"], told["play"]) == ("completed", 20, play.id)
    assert told["workers"]["two"] == {"status": "idle", "games": 10}
    assert len(list(place.logs.glob("selfplay_*Z.log"))) == 2

    here = played(capsys, *words(place, "local", 20, tmp_path / "b.db"))
    ledger, again = newest(place)
    assert {row.host for row in ledger.play_shards(again.id)} == {"this machine"}
    assert [row.result["batch"] for row in there if row.result] == [
        row.result["batch"] for row in ledger.play_shards(again.id) if row.result
    ]
    assert (over["batch"], over["games"]) == (here["batch"], 20)
    assert distinct_games(tmp_path / "a.db") == 20
    (recorded,) = [one for one in ledger.artifacts(config=CONFIG, kind="games") if one.sha == over["batch"]]
    assert recorded.meta["games"] == 20
    for home in (place.root, pair["one"].work, pair["two"].work):
        assert not list((home / "play").glob("*/*.db"))
    assert played(capsys, *words(place, "ssh", 20, tmp_path / "b.db"))["batch"] == here["batch"]  # done: taken up


def test_what_a_command_left_on_a_host_that_was_away_goes_when_it_is_back_and_only_when_the_command_is_over(
    place: Home, pair: dict[str, Sshd]
) -> None:
    ledger = Ledger.open()
    left = {}
    for games in (20, 30):
        play = ledger.begin_play({"games": games}, {"seed": 1, "config": CONFIG, "games": games}, 1)
        job = Job(job_id=part_job(play, 0), argv=(sys.executable, "-c", ""), spec={}, timeout_seconds=60)
        LocalJobs(pair["one"].work / "jobs").submit_or_adopt(job)
        left[play.id] = pair["one"].work / folder_of(play) / "s0.db"
        left[play.id].parent.mkdir(parents=True)
        left[play.id].write_bytes(b"games")
    over, under_way = left
    ledger.finish_play(over, {"games": 20})
    fleet.sync_one(Hosting(place, ledger), "one")
    assert {number: file.exists() for number, file in left.items()} == {over: False, under_way: True}


def test_R62_a_command_killed_in_the_middle_goes_on_and_adopts_what_runs(
    spawn: Callable[[list[str]], subprocess.Popen[bytes]],
    place: Home,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place.pipeline_file.write_text("selfplay: {games_per_worker: 150}\n")
    command = words(place, "local", 450, tmp_path / "games.db", "--state", str(tmp_path / "state.json"))
    first = spawn(command)
    jobs = LocalJobs(place.jobs)
    until(
        lambda: any((jobs.poll(job).heartbeat or {}).get("done") for job in jobs.all()),
        "games are played",
        seconds=LONG,
    )
    first.send_signal(signal.SIGKILL)
    first.wait()
    before = {job: jobs.poll(job).attempt for job in jobs.all()}
    assert 1 <= len(before) <= 2
    result = played(capsys, *command)
    assert (result["games"], distinct_games(tmp_path / "games.db")) == (450, 450)
    assert {job: jobs.poll(job).attempt for job in before} == before  # adopted, not begun again
    ledger, play = newest(place)
    assert (len(ledger.plays()), play.state, len(ledger.play_shards(play.id))) == (1, "done", 3)


def test_a_part_that_is_not_what_it_says_is_played_again(
    place: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ringrift_ops.operations import playing

    verify, spoilt = playing._verify, list[Path]()

    def once(path: Path, spec: Any, result: Any) -> None:
        if not spoilt:
            spoilt.append(path)
            with sqlite3.connect(path) as connection:
                connection.execute("UPDATE games SET winner = 3 - winner WHERE winner IS NOT NULL")
        verify(path, spec, result)

    monkeypatch.setattr(playing, "_verify", once)
    assert played(capsys, *words(place, "local", 6, tmp_path / "games.db"))["games"] == 6
    _, play = newest(place)
    assert spoilt == [place.resolve(str(part_spec(play, 0).output))]
    assert distinct_games(tmp_path / "games.db") == 6


def test_output_and_state_of_others_are_refused(
    place: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, state = tmp_path / "games.db", tmp_path / "state.json"
    output.write_bytes(b"something else")
    assert main(words(place, "local", 6, output)) == ExitCode.WRONG_USAGE
    assert "exists already" in capsys.readouterr().err
    ledger = Ledger.open()
    play = ledger.begin_play({"x": 1}, {"seed": 1, "config": CONFIG, "games": 60}, 3)
    state.write_text(json.dumps(ledger.play_state(play)))
    assert main(words(place, "local", 6, tmp_path / "b.db", "--state", str(state))) == ExitCode.WRONG_USAGE
    assert "another command that is not over: 60 games" in capsys.readouterr().err


def test_R62_ctrl_c_ends_the_jobs_and_a_second_process_is_turned_away_meanwhile(
    spawn: Callable[[list[str]], subprocess.Popen[bytes]],
    place: Home,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place.pipeline_file.write_text("selfplay: {games_per_worker: 100000}\n")
    command = words(place, "local", 200_000, tmp_path / "games.db")
    first = spawn(command)
    jobs = LocalJobs(place.jobs)
    until(lambda: len(jobs.all()) >= 2, "jobs have begun", seconds=LONG)
    assert main(command) == ExitCode.INFRASTRUCTURE
    assert "another process does this very command" in capsys.readouterr().err
    first.send_signal(signal.SIGINT)
    assert first.wait(LONG) == 130
    assert [jobs.poll(job).over for job in jobs.all()] == [True] * len(jobs.all())
    ledger, play = newest(place)
    assert (play.state, ledger.play_state(play)["games_target"]) == ("playing", 200_000)


def test_jobs_of_a_command_that_went_on_elsewhere_or_is_over_belong_to_nobody(place: Home) -> None:
    ledger, slot = Ledger.open(), Slot("one", 4)
    play = ledger.begin_play({"x": 1}, {"seed": 1, "config": CONFIG, "games": 60}, 3)
    ledger.begin_part(play, 0, part_job(play, 0), [slot])
    hosting = Hosting(place, ledger)
    assert fleet._disowned(hosting, "one", part_job(play, 0)) is None
    assert fleet._disowned(hosting, "two", part_job(play, 1)) is None  # nobody has begun it elsewhere
    assert fleet._disowned(hosting, "two", part_job(play, 0)) == "part 0 of its command went on on one"
    assert fleet._disowned(hosting, "two", "hex8_2p-x0123456789ab-selfplay-s0") is None  # another ledger's
    ledger.finish_play(play.id, {"games": 60})
    assert fleet._disowned(hosting, "one", part_job(play, 0)) == "all games of its command are there"


@pytest.mark.parametrize("live", [True, False])
def test_R62_every_host_has_its_line(live: bool, capsys: pytest.CaptureFixture[str]) -> None:
    hosts = [HostLine("one", 30, 12.5, 2, "playing"), HostLine("two", 0, 0.0, 1, "away")]
    with shown(live=live) as tell:
        tell(Picture(CONFIG, 30, 100, 10, 9.0, hosts))
    told = capsys.readouterr().err
    for words in ("30/100 games", "12.5 games/s", "0:06 left", "one", "12.5", "playing", "two", "away"):
        assert words in told


@pytest.mark.hosts_campaign
def test_R62_three_hosts_one_lost_and_the_command_killed_in_the_middle_lose_and_repeat_nothing(
    spawn: Callable[[list[str]], subprocess.Popen[bytes]],
    place: Home,
    sshds: Sshds,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place.pipeline_file.write_text("selfplay: {games_per_worker: 200}\n")
    made = {name: sshds.make() for name in ("a", "b", "c")}
    hosts_of(place, made)
    command = words(place, "ssh", 3_000, tmp_path / "games.db", "--state", str(tmp_path / "state.json"))
    first = spawn(command)
    ledger = Ledger.open()

    def all_have_played() -> bool:
        rows = [row for play in ledger.plays() for row in ledger.play_shards(play.id)]
        return {row.host for row in rows if row.state == "done"} == set(made)

    until(all_have_played, "every host has played a part", seconds=LONG)
    lost = LocalJobs(made["a"].work / "jobs")
    made["a"].stop()
    lost.kill_all()
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    (play,) = ledger.plays()
    assert play.state == "playing"
    assert not (tmp_path / "games.db").exists()
    result = played(capsys, *command)
    assert (result["games"], distinct_games(tmp_path / "games.db")) == (3_000, 3_000)
    rows = ledger.play_shards(play.id)
    assert (len(ledger.plays()), len(rows)) == (1, 15)
    assert {"b", "c"} <= {row.host for row in rows}
    assert played(capsys, *words(place, "local", 3_000, tmp_path / "here.db"))["batch"] == result["batch"]
    for sshd in made.values():
        LocalJobs(sshd.work / "jobs").kill_all()
        sshd.stop()


@pytest.mark.hosts_campaign
@pytest.mark.parametrize("how", ["frozen", "slow"])
def test_R62_a_part_that_crawls_is_begun_again_on_a_free_host_and_no_game_is_doubled(
    how: str,
    place: Home,
    pair: dict[str, Sshd],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``frozen``: SIGSTOP to all of the job's processes; ``slow``: they are let run for a tenth of the time."""
    quick = MOVING.model_copy(update={"least_seconds": 2.0, "gain_seconds": 2.0, "look_seconds": 0.2})
    monkeypatch.setattr(moving, "MOVING", quick)
    played(capsys, *words(place, "ssh", 20, tmp_path / "first.db"))  # both are measured by it
    place.pipeline_file.write_text("selfplay: {games_per_worker: 400}\n")
    ledger, over = Ledger.open(), threading.Event()
    throttle = threading.Thread(target=throttled, args=(LocalJobs(pair["one"].work / "jobs"), how, over))
    throttle.start()
    try:
        result = played(capsys, *words(place, "ssh", 800, tmp_path / "games.db"))
    finally:
        over.set()
        throttle.join()
    assert (result["games"], distinct_games(tmp_path / "games.db")) == (800, 800)
    _, play = newest(place)
    rows = ledger.play_shards(play.id)
    assert [(row.host, row.second, row.state) for row in rows] == [("two", None, "done")] * 2
    there = LocalJobs(pair["one"].work / "jobs")
    crawled = [job for job in there.all() if part_job(play, 0)[:20] in job]
    assert crawled == []  # it was set aside with the reason
    (aside,) = (pair["one"].work / "jobs" / "_refused").iterdir()
    assert "it was begun twice and stays on two" in (aside / "reason.json").read_text()
    assert not list(pair["one"].work.glob("play/*/*"))
    assert ledger.jobs_per_host() == {}
    assert played(capsys, *words(place, "local", 800, tmp_path / "here.db"))["batch"] == result["batch"]


def throttled(jobs: LocalJobs, how: str, over: threading.Event) -> None:
    """Freeze, or slow down, all processes of the newest job of a host once it has played a few of 400 games."""

    def playing() -> str | None:
        for job_id in jobs.running():
            beat = jobs.poll(job_id).heartbeat or {}
            if beat.get("total") == 400 and beat.get("done"):
                return job_id
        return None

    while not over.is_set():
        job_id = playing()
        if job_id is None:
            over.wait(0.02)
            continue
        runner = JobFolder(jobs.folder(job_id)).runner()
        assert runner is not None
        found = [runner.process.pid, *(one.pid for one in job_processes(jobs.folder(job_id), runner.process))]
        send(signal.SIGSTOP, found)
        if over.wait(0.9) or how == "frozen":
            over.wait()
            return
        send(signal.SIGCONT, found)
        over.wait(0.1)
