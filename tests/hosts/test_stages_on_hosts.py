"""A generation whose stages run on hosts behind real sshds: real games, a real net, the ledger on this side only."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ringrift_ops.airflow import work as work_module
from ringrift_ops.airflow.verifying import LostJobError
from ringrift_ops.airflow.work import Work
from ringrift_ops.home import Home
from ringrift_ops.hosts import files as files_module
from ringrift_ops.hosts import link as link_module
from ringrift_ops.hosts.edge import EdgeJobs, Mirror
from ringrift_ops.hosts.errors import HostRefusedError
from ringrift_ops.hosts.facts import facts
from ringrift_ops.hosts.folder import JobFolder, read_json, write_json
from ringrift_ops.hosts.jobs import JobState
from ringrift_ops.hosts.local import LocalJobs
from ringrift_ops.hosts.processes import job_processes
from ringrift_ops.hosts.remote import RemoteJobs
from ringrift_ops.ledger import (
    BetterHostError,
    EventType,
    Ledger,
    NoFreeHostError,
    StageRun,
    StaleTokenError,
    generation_lease,
)
from ringrift_ops.operations import locks
from ringrift_ops.operations.by import By
from ringrift_ops.operations.control import Controls, end_jobs
from ringrift_ops.operations.locks import LockInUseError
from ringrift_ops.operations.status import cell_of, status
from ringrift_ops.platform.processes import send
from ringrift_ops.settings import HOSTS, MOVING, REMEDIES, Host
from ringrift_ops.stages import hosting as hosting_module
from ringrift_ops.stages import moving
from ringrift_ops.stages.hosting import ForeignResultError, Hosting
from ringrift_ops.stages.placement import checkpoints_of
from ringrift_ops.stages.recording import ForeignEffectError
from ringrift_ops.stages.specs import Stage, TrainSpec
from ringrift_ops.store import sha256_file
from tests.hosts import edge
from tests.hosts.sshd import Sshd, Sshds, until, write_inventory

if TYPE_CHECKING:
    from ringrift_ops.airflow.triggers import JobTrigger

CONFIG = "hex8_2p"
SMALL = """\
profile: tiny
destinations: [hush-hush]
configs:
  hex8_2p:
    gate: {random: 0.86}
profiles:
  tiny:
    first_games: 20
    split_ratio: 0.7
    window_minimum_rows: 50
    epochs: 2
    batch_size: 64
    checkpoint_every_steps: 1
    games_per_look: 2
    cap: 4
    cap_previous: 4
    mirror_games: 0
    gauntlet_simulations: 2
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = HOSTS.model_copy(update={"again_seconds": 0.05, "connect_pause_seconds": 0.05, "lost_seconds": 1.0})
    monkeypatch.setattr(link_module, "HOSTS", quick)
    monkeypatch.setattr(hosting_module, "HOSTS", quick)


@pytest.fixture
def pair(sshds: Sshds) -> Iterator[tuple[Sshd, Sshd]]:
    """Two hosts: ``player`` for self-play, ``trainer`` for everything, with a GPU by its inventory."""
    found = sshds.make(), sshds.make()
    yield found
    for sshd in found:
        LocalJobs(sshd.work / "jobs").kill_all()
        sshd.stop()


@pytest.fixture
def work(home: Path, pair: tuple[Sshd, Sshd]) -> Work:
    place = Home(home).ensure()
    place.settings_file.write_text(SMALL)
    player, trainer = pair
    rows: dict[str, Host] = {
        "player": player.host("player", role="selfplay", max_parallel_jobs=1),
        "trainer": trainer.host("trainer", role="mixed", capabilities=["gpu"], max_parallel_jobs=2),
    }
    write_inventory(place, rows)
    return Work.of_run(CONFIG, None, "run1", datetime.now(UTC), "tiny")


def granted(work: Work) -> int:
    lease = work.grant()
    assert lease is not None
    return lease.token


def done(work: Work, stage: Stage, token: int, shard: int = 0) -> dict[str, object]:
    said: list[str] = []
    work.submit(stage, token, shard)
    work.follow(stage, token, said.append, shard)
    result = work.complete(stage, token, shard)
    assert any("== attempt" in line for line in said)
    return result


def fired(trigger: JobTrigger) -> dict[str, object]:
    """The payload of a trigger's event."""
    answers: list[dict[str, object]] = []
    until(lambda: answers.extend(filter(None, [trigger.look()])) or answers, "the trigger fires", seconds=120)
    return answers[0]


def decided(work: Work, token: int, say: Callable[[str], object]) -> Iterator[dict[str, object]]:
    """Do what the task of the first shard does each time that its trigger wakes it, until the shard is over."""
    from ringrift_ops.airflow.triggers import JobTrigger  # brings in Airflow, which reads its environment only once

    run = {
        "config": CONFIG, "logical_date": None, "run_id": "run1", "run_after": work.generation.run_after.isoformat(),
        "profile": "tiny", "candidate": None, "games": None,
    }  # fmt: skip
    over = False
    while not over:
        told = fired(JobTrigger(run, stage="selfplay", shard=0, token=token, failed=[]))
        twice = work.twice(Stage.SELFPLAY, 0, token, say)
        assert twice is not None
        over = twice.look(work.look(Stage.SELFPLAY, 0)).over
        yield told


@pytest.mark.slow
def test_a_generation_plays_on_two_hosts_trains_on_the_one_with_the_gpu_and_is_judged(
    work: Work, pair: tuple[Sshd, Sshd]
) -> None:
    player, trainer = pair
    token = granted(work)
    assert work.plan.shards == [0, 1]
    for shard in work.plan.shards:
        work.submit(Stage.SELFPLAY, token, shard)
    assert [work.host(Stage.SELFPLAY, shard) for shard in (0, 1)] == ["player", "trainer"]
    for shard in work.plan.shards:
        work.follow(Stage.SELFPLAY, token, lambda _: None, shard)
        batch = work.complete(Stage.SELFPLAY, token, shard)
        here, there = work.home.resolve(str(batch["path"])), (player, trainer)[shard].work / str(batch["path"])
        assert sha256_file(here) == sha256_file(there)
        assert work.ledger.artifact(str(batch["batch"])).path == batch["path"]
    assert done(work, Stage.PARITY, token)["passed"]
    assert done(work, Stage.EXPORT, token)["samples"]
    assert (work.host(Stage.PARITY), work.host(Stage.EXPORT)) == (None, None)
    net = done(work, Stage.TRAIN, token)
    assert work.host(Stage.TRAIN) == "trainer"
    assert sha256_file(work.home.resolve(str(net["path"]))) == net["weights"]
    assert not (trainer.work / "ledger.db").exists()
    judged = done(work, Stage.GAUNTLET, token)
    assert (judged["verdict"], judged["candidate"]) == ("FAIL", net["weights"])
    assert judged["gate_version"] == work.settings.gate(CONFIG).version
    assert "random=0.86" in str(judged["gate_version"])
    told = (player.work / "config" / "settings.yaml").read_text()
    assert "0.86" in told
    assert "hush" not in told
    assert work.host(Stage.GAUNTLET) == "player"
    ancestors = {one.artifact.kind for one in work.ledger.lineage(str(net["weights"])).ancestors}
    assert ancestors == {"dataset", "games"}
    (evaluation,) = work.ledger.evaluations(CONFIG)
    assert evaluation.report == judged["report"]
    finished = work.finish([Stage.SELFPLAY, Stage.PARITY, Stage.EXPORT, Stage.TRAIN, Stage.GAUNTLET])
    assert finished.reason == judged["reason"]
    assert work.ledger.jobs_per_host() == {}


def test_R70_the_same_shard_asked_again_is_adopted_on_its_host_and_its_log_is_here(work: Work) -> None:
    token = granted(work)
    work.submit(Stage.SELFPLAY, token, 0)
    again = Work.of_run(CONFIG, None, "run1", datetime.now(UTC), "tiny")
    again.submit(Stage.SELFPLAY, token, 0)
    assert (work.host(Stage.SELFPLAY), work.ledger.jobs_per_host()) == ("player", {"player": 1})
    first = done(again, Stage.SELFPLAY, token)
    assert again.jobs(Stage.SELFPLAY).log(work.job_id(Stage.SELFPLAY)).text.count("== attempt") == 1
    assert work.taken_up(Stage.SELFPLAY) == first
    (log,) = work.home.logs.glob("selfplay_player_*Z.log")
    slots = {one.host: one for one in work.hosting.slots(Stage.SELFPLAY, work.plan.spec(Stage.SELFPLAY, token, 1))}
    assert slots["player"].seconds is not None  # measured by that shard
    assert slots["trainer"].seconds is None
    assert log.read_text().startswith("== attempt 1 of hex8_2p-g1-selfplay-s0")


def test_operations_see_what_runs_on_a_host_keep_its_lock_and_end_it(work: Work, pair: tuple[Sshd, Sshd]) -> None:
    work.home.settings_file.write_text(SMALL.replace("first_games: 20", "first_games: 20000"))
    work = Work.of_run(CONFIG, None, "run1", datetime.now(UTC), "tiny")
    work.submit(Stage.SELFPLAY, granted(work))
    job_id = work.job_id(Stage.SELFPLAY)
    until(lambda: (work.look(Stage.SELFPLAY).heartbeat or {}).get("done"), "games are played on the host")
    job = read_json(LocalJobs(pair[0].work / "jobs").folder(job_id) / "job.json")
    assert job is not None
    assert job["env"]["RINGRIFT_PROFILE"] == "tiny"  # the generation's, whatever the host's own default is

    cell = cell_of(status(work.home, work.settings, work.ledger, None, CONFIG), CONFIG, "selfplay")
    assert cell.status == "running"
    assert cell.progress is not None
    assert cell.progress.done > 0
    by = By.here("", "cli")
    with pytest.raises(LockInUseError, match=f"job {job_id} on host player"):
        locks.release(work.home, work.ledger, by, CONFIG)
    assert end_jobs(Controls(work.home, work.settings, work.ledger, None), CONFIG) == [job_id]
    assert work.look(Stage.SELFPLAY).over


def test_F24_result_in_a_place_of_its_own_or_under_an_old_token_is_refused_and_the_new_holder_takes_it(
    work: Work, pair: tuple[Sshd, Sshd]
) -> None:
    token = granted(work)
    work.submit(Stage.SELFPLAY, token)
    work.follow(Stage.SELFPLAY, token, lambda _: None)
    folder = JobFolder(LocalJobs(pair[0].work / "jobs").folder(work.job_id(Stage.SELFPLAY)))
    for path, lie in ((folder.spec, {"output": "other.db"}), (folder.result, {"path": "other.db"})):
        path.with_suffix(".true").write_bytes(path.read_bytes())
        write_json(path, (read_json(path) or {}) | lie)
    with pytest.raises(ForeignResultError, match=r"host player: .* cannot have made 'other\.db'"):
        work.complete(Stage.SELFPLAY, token)
    for path in (folder.spec, folder.result):
        path.with_suffix(".true").replace(path)
    work.ledger.force_release_lease(generation_lease(CONFIG), reason="a test", actor="test")
    newer = granted(work)
    with pytest.raises(StaleTokenError):
        work.complete(Stage.SELFPLAY, token)
    assert work.ledger.artifacts(config=CONFIG) == []
    assert not list(work.home.games.glob("*.db"))
    effects = folder.effects
    (told,) = [json.loads(line) for line in effects.read_text().splitlines()]
    effects.write_text(json.dumps(told | {"record": "record_gauntlet"}))
    with pytest.raises(ForeignEffectError, match="is not for a job of this stage to tell"):
        work.complete(Stage.SELFPLAY, newer)
    lie = {"spec": {"config": "square8_2p"}, "result": told["result"] | {"games": 9999}}
    effects.write_text(json.dumps(told | lie))
    assert done(work, Stage.SELFPLAY, newer)["games"] == 10
    (games,) = work.ledger.artifacts()
    assert (games.config, games.meta["games"]) == (CONFIG, 10)
    assert work.jobs(Stage.SELFPLAY).poll(work.job_id(Stage.SELFPLAY)).attempt == 1


def test_a_host_that_refuses_gives_its_shard_to_the_next(work: Work, pair: tuple[Sshd, Sshd]) -> None:
    pair[0].stop()
    token = granted(work)
    assert done(work, Stage.SELFPLAY, token)["games"] == 10
    assert work.host(Stage.SELFPLAY) == "trainer"


def test_R62_a_shard_waits_in_its_task_for_a_host_that_will_be_done_sooner(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work_module, "HOSTS", HOSTS.model_copy(update={"poll_seconds": 0.05}))
    token, start, waited = granted(work), work.ledger.start_stage, list[int]()

    def busy_at_first(*asked: Any, **more: Any) -> StageRun:
        waited.append(more["waiting"])
        if len(waited) < 3:
            raise BetterHostError("a busy host will be done sooner than a free one")
        return start(*asked, **more)

    monkeypatch.setattr(work.ledger, "start_stage", busy_at_first)
    work.submit(Stage.SELFPLAY, token, 0)
    assert (work.host(Stage.SELFPLAY), waited) == ("player", [2, 2, 2])


def test_no_host_at_all_is_the_reason_of_the_last(work: Work, pair: tuple[Sshd, Sshd]) -> None:
    for sshd in pair:
        sshd.stop()
    with pytest.raises(HostRefusedError, match="nobody listens"):
        work.submit(Stage.SELFPLAY, granted(work))


def test_every_host_full_is_told_with_counts(work: Work) -> None:
    token = granted(work)
    note = work.ledger.start_stage
    slots = work.hosting.slots(Stage.SELFPLAY, work.plan.spec(Stage.SELFPLAY, token))
    for shard in range(3):
        note(work.generation.id, "selfplay", shard, {}, token, slots=slots)
    assert work.ledger.jobs_per_host() == {"player": 1, "trainer": 2}
    with pytest.raises(NoFreeHostError, match="player 1 of 1, trainer 2 of 2"):
        note(work.generation.id, "selfplay", 3, {}, token, slots=slots)


def test_a_host_lost_for_good_is_left_and_only_its_own_shard_moves(work: Work, pair: tuple[Sshd, Sshd]) -> None:
    token = granted(work)
    work.submit(Stage.SELFPLAY, token, 0)
    assert work.host(Stage.SELFPLAY) == "player"
    pair[0].stop()
    assert work.look(Stage.SELFPLAY).state is JobState.RUNNING
    until(lambda: work.look(Stage.SELFPLAY).state is JobState.DEAD, "the host counts as lost")
    with pytest.raises(LostJobError, match="its host is lost"):
        work.complete(Stage.SELFPLAY, token)
    assert done(work, Stage.SELFPLAY, token)["games"] == 10
    assert work.host(Stage.SELFPLAY) == "trainer"
    [applied] = work.ledger.events(types=[EventType.REMEDY_APPLIED])
    assert (applied.payload["kind"], applied.payload["reason"]) == ("lost_host", "its host player is lost")
    assert [event.payload["ok"] for event in work.ledger.events(types=[EventType.REMEDY_VERIFIED])] == [True]


def test_at_the_bound_a_shard_waits_for_its_own_host(work: Work, pair: tuple[Sshd, Sshd]) -> None:
    token = granted(work)
    work.submit(Stage.SELFPLAY, token, 0)
    target = {"kind": "lost_host", "target": work.job_id(Stage.SELFPLAY), "reason": "r", "action": "a", "step": None}
    for number in range(REMEDIES.lost_host):
        payload = target | {"tries": number + 1, "bound": REMEDIES.lost_host}
        work.ledger.record_event(EventType.REMEDY_APPLIED, CONFIG, None, payload)
    pair[0].stop()
    until(lambda: work.look(Stage.SELFPLAY).state is JobState.DEAD, "the host counts as lost")
    with pytest.raises(HostRefusedError):
        work.submit(Stage.SELFPLAY, token, 0)
    assert work.host(Stage.SELFPLAY) == "player"
    pair[0].start()
    assert done(work, Stage.SELFPLAY, token)["games"] == 10
    assert work.host(Stage.SELFPLAY) == "player"


@pytest.mark.hosts_campaign
def test_a_training_goes_on_elsewhere_from_the_checkpoint_that_was_copied(
    work: Work, pair: tuple[Sshd, Sshd], home: Path
) -> None:
    player, trainer = pair
    work.home.settings_file.write_text(SMALL.replace("epochs: 2", "epochs: 60"))
    work = Work.of_run(CONFIG, None, "run1", datetime.now(UTC), "tiny")
    token = granted(work)
    for shard in (0, 1):
        done(work, Stage.SELFPLAY, token, shard)
    done(work, Stage.PARITY, token)
    done(work, Stage.EXPORT, token)
    work.submit(Stage.TRAIN, token)
    folder = "data/training/checkpoints"
    until(lambda: list((trainer.work / folder).glob("*/checkpoint.safetensors")), "a checkpoint")
    local = LocalJobs(trainer.work / "jobs")
    runner = local.poll(work.job_id(Stage.TRAIN)).pid
    assert runner is not None
    os.kill(runner, signal.SIGKILL)
    for process in job_processes(local.folder(work.job_id(Stage.TRAIN)), None):
        os.kill(process.pid, signal.SIGKILL)
    work.keep_checkpoint(Stage.TRAIN)
    (kept,) = (work.home.root / folder).glob("*/checkpoint.safetensors")
    trainer.stop()
    write_inventory(work.home, {
        "trainer": trainer.host("trainer", role="mixed", capabilities=["gpu"]),
        "second": player.host("second", role="training"),
    })  # fmt: skip
    later = Work.of_run(CONFIG, None, "run1", datetime.now(UTC), "tiny")
    until(lambda: later.look(Stage.TRAIN).state is JobState.DEAD, "the host counts as lost")
    result = done(later, Stage.TRAIN, token)
    assert later.host(Stage.TRAIN) == "second"
    assert result["resumed_from_step"]
    assert not kept.exists()
    assert list((work.home.logs / "tensorboard" / kept.parent.name).iterdir()), "its curves are here"


def training() -> TrainSpec:
    return TrainSpec(
        config=CONFIG, generation=None, token=0, seed=1, dataset="0" * 64, dataset_path="x", parent=None,
        resume_from=None, family="convolutional", sizes={}, epochs=1, batch_size=512, learning_rate=1.0,
        weight_decay=0.0, clip_norm=1.0, device="cuda", checkpoint_every_steps=1, output=None,
    )  # fmt: skip


def test_a_training_that_ends_while_its_checkpoint_is_copied_is_left_alone(
    home: Path, sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Home(home).ensure()
    write_inventory(place, {"one": sshd.host("one")})
    hosting = Hosting(place, Ledger.open())
    folder = sshd.work / str(checkpoints_of(place, training()))
    for module, step in ((hosting_module, "pull"), (files_module, "_read")):
        folder.mkdir(parents=True)
        (folder / "checkpoint.safetensors").write_bytes(b"a net")
        real = getattr(module, step)

        def ended_before(*args: Any, real: Callable[..., Any] = real) -> Any:
            shutil.rmtree(folder)
            return real(*args)

        with monkeypatch.context() as patched:
            patched.setattr(module, step, ended_before)
            hosting.keep_checkpoint("one", training())
        assert not folder.exists()


def test_F24_a_host_does_not_choose_where_the_files_of_a_training_go(
    home: Path, sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Home(home).ensure()
    write_inventory(place, {"one": sshd.host("one")})
    hosting, folder = Hosting(place, Ledger.open()), checkpoints_of(place, training())
    (sshd.work / "x").write_bytes(b"x")
    for path in ("x", f"{folder}/../x", f"{folder}/..", str(home / "x")):
        told = [{"path": path, "sha": sha256_file(sshd.work / "x"), "size": 1}]
        with monkeypatch.context() as patched:
            patched.setattr(RemoteJobs, "answer", lambda _, verb, told=told, **__: told if verb == "files" else told[0])
            with pytest.raises(ForeignResultError, match=r"is no file of data/training/checkpoints"):
                hosting.keep_checkpoint("one", training())


def test_the_batch_fits_the_gpu_of_the_host(work: Work, pair: tuple[Sshd, Sshd]) -> None:
    spec = training()
    for memory, size in ((8, 256), (15.8, 512), (80, 512)):
        write_inventory(work.home, {"a": pair[0].host("a", gpu={"memory_gb": memory})})
        later = Work.of_run(CONFIG, None, "run1", datetime.now(UTC), "tiny")
        fitted = later.hosting.fitted(spec, "a")
        assert isinstance(fitted, TrainSpec)
        assert fitted.batch_size == size
    assert os.environ["RINGRIFT_HOME"] == str(work.home.root)


@pytest.mark.parametrize("refused", [False, True], ids=["begun", "refused once before its first start"])
def test_R31_a_training_on_a_small_gpu_is_the_same_one_however_often_it_is_tried(home: Path, refused: bool) -> None:
    place = Home(home).ensure()
    edge.inventory(place, edge.INVENTORY + "    gpu: {memory_gb: 8}\n")
    Mirror(place, "box").heard(facts(place))
    work = Work.of_run(CONFIG, None, "run1", datetime.now(UTC), "standard")
    token = granted(work)
    work.ledger.record_artifact(
        "d" * 64, "dataset", "data/training/d.npz", size=7, config=CONFIG, generation=work.generation.id, parents=[],
        meta={"samples": 1}, token=token,
    )  # fmt: skip

    def tried() -> StageRun:
        work.submit(Stage.TRAIN, token)
        [run] = work.ledger.stage_runs(work.generation.id, "train")
        return run

    def failed() -> None:
        EdgeJobs(Mirror(place, "box")).forget(work.job_id(Stage.TRAIN))
        work.ledger.record_stage_error(work.generation.id, "train", 0, "killed", token)

    if refused:
        failed()
    first = tried()
    assert (first.host, first.spec["batch_size"]) == ("box", 256)
    failed()
    assert tried().spec == first.spec
    failed()
    place.settings_file.write_text("profiles:\n  standard: {batch_size: 64}\n")
    work = Work.of_run(CONFIG, None, "run1", datetime.now(UTC), "standard")
    assert tried().spec["batch_size"] == 64, "what a person chose to mend it"


@pytest.mark.hosts_campaign
def test_a_shard_that_crawls_is_begun_again_by_the_task_that_its_trigger_wakes(
    work: Work, pair: tuple[Sshd, Sshd], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_HOME", str(work.home.airflow))
    quick = MOVING.model_copy(update={"least_seconds": 2.0, "gain_seconds": 2.0, "look_seconds": 0.2})
    monkeypatch.setattr(moving, "MOVING", quick)
    work.home.settings_file.write_text(SMALL.replace("first_games: 20", "first_games: 800"))
    work = Work.of_run(CONFIG, None, "run1", datetime.now(UTC), "tiny")
    token = granted(work)
    work.submit(Stage.SELFPLAY, token, 0)
    jobs, job_id = LocalJobs(pair[0].work / "jobs"), work.job_id(Stage.SELFPLAY, 0)
    until(lambda: (jobs.poll(job_id).heartbeat or {}).get("done"), "games are played", seconds=120)
    runner = JobFolder(jobs.folder(job_id)).runner()
    assert runner is not None
    send(signal.SIGSTOP, [runner.process.pid, *(p.pid for p in job_processes(jobs.folder(job_id), runner.process))])
    assert done(work, Stage.SELFPLAY, token, 1)["games"] == 400
    assert work.host(Stage.SELFPLAY, 1) == "trainer"

    said: list[str] = []
    told = [one["state"] for one in decided(work, token, said.append)]
    assert told[0] == told[1] == "to be decided", "it is begun again, and then one of the two is chosen"
    result = work.complete(Stage.SELFPLAY, token, 0)
    (row,) = [run for run in work.ledger.stage_runs(work.generation.id, "selfplay") if run.shard == 0]
    assert (row.host, row.second, row.state, result["games"]) == ("trainer", None, "done", 400)
    assert any(f"{job_id} crawls on player" in line for line in said)
    assert any(f"{job_id} stays on trainer" in line for line in said)
    assert jobs.all() == []
    assert not list((pair[0].work / "data" / "games").glob("*"))
    assert work.ledger.jobs_per_host() == {}
    known = {one.sha for one in work.ledger.artifacts(config=CONFIG, kind="games")}
    assert len(known) == 2
    assert result["batch"] in known
