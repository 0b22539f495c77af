"""Control without a running platform: what it refuses, what it clears, and who is on record for it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest

from ringrift_ops.airflow.work import Work
from ringrift_ops.cli import main
from ringrift_ops.errors import ExitCode, InfrastructureError, UsageError
from ringrift_ops.home import Home
from ringrift_ops.hosts.jobs import Job, JobState
from ringrift_ops.hosts.local import LocalJobs
from ringrift_ops.ledger import (
    Condition,
    EventType,
    GenerationState,
    Ledger,
    MissingReasonError,
    Outcome,
    StaleTokenError,
    generation_lease,
)
from ringrift_ops.operations import breakers
from ringrift_ops.operations.by import By
from ringrift_ops.operations.control import (
    CooldownError,
    NothingToRecoverError,
    PlatformNotRunningError,
    recover,
    reset,
    trigger,
)
from ringrift_ops.operations.diagnosing import findings
from ringrift_ops.operations.locks import LockInUseError
from ringrift_ops.operations.promotions import NotCanonicalError
from ringrift_ops.operations.status import status
from ringrift_ops.operations.training_state import clear_training_states
from ringrift_ops.operations.verification import verify
from ringrift_ops.platform import facts
from ringrift_ops.platform.api import Rest
from ringrift_ops.platform.facts import controls
from ringrift_ops.runbook import (
    emit_model_promoted,
    get_pipeline_orchestrator,
    release_training_lock,
    training_lock,
)
from ringrift_ops.settings import OPERATIONS, PROFILES
from ringrift_ops.stages.specs import Stage
from ringrift_ops.store import Store
from tests.ledger.conftest import sha

LEASE = generation_lease("hex8_2p")


@pytest.fixture
def training(bench: Any, house: Home) -> Iterator[str]:
    """A real job that the running generation of hex8_2p counts as its training."""
    generation, lease = bench.running("first")
    job_id = f"hex8_2p-g{generation.id}-train"
    jobs = LocalJobs(house.jobs)
    script = "import signal; signal.pause()"
    jobs.submit_or_adopt(Job(job_id=job_id, argv=(sys.executable, "-c", script), spec={}, timeout_seconds=60))
    bench.ledger.start_stage(generation.id, "train", 0, {}, lease.token, job_id=job_id)
    yield job_id
    jobs.kill(job_id)


class Pages(Rest):
    """An Airflow with these runs of one config, newest first, {run: (state, {task: its state})}.

    It lists them as Airflow does: 50 where no limit is asked for, and 100 at most. One that is ended stays under way,
    because its task ``finish`` is still to come.
    """

    def __init__(self, **runs: tuple[str, dict[str, str]]) -> None:
        self.runs_of = runs
        self.cleared: list[tuple[str, list[str]]] = []
        self.ended: list[str] = []

    def call(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        asked = urlsplit(path)
        query, place = dict(parse_qsl(asked.query)), unquote(asked.path).split("/")
        if method == "POST":
            assert body is not None
            self.cleared.append((body["dag_run_id"], body["task_ids"]))
        elif method == "PATCH":
            self.ended.append(place[4])
        elif place[-1] == "taskInstances":
            tasks = self.runs_of[place[4]][1]
            return {"task_instances": [{"task_id": name, "state": state} for name, state in tasks.items()]}
        else:
            found = [
                {"dag_run_id": run, "state": state}
                for run, (state, _) in self.runs_of.items()
                if query.get("state") in (None, state)
            ]
            first = int(query.get("offset", 0))
            page = found[first : first + min(int(query.get("limit", 50)), 100)]
            return {"dag_runs": page, "total_entries": len(found)}
        return {}


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> Pages:
    """The Airflow that every door of this home finds."""
    found = Pages()
    monkeypatch.setattr(facts, "running_api", lambda home: found)
    return found


def audited(ledger: Ledger) -> list[tuple[str, str]]:
    return [(row.action, row.reason) for row in ledger.audit()]


def test_R23_the_lock_names_its_holder_and_one_in_use_is_released_only_with_a_reason(
    bench: Any, training: str, capsys: Any
) -> None:
    lock = training_lock("hex8_2p")
    assert (lock.is_locked(), lock.get_holder()) == (True, "first")
    with pytest.raises(LockInUseError, match=rf"in use by job {training} \(held by first until"):
        lock.force_release()
    assert main(["lock", "hex8_2p", "--release"]) == ExitCode.GATE_SAID_NO
    assert audited(bench.ledger) == []
    assert main(["lock", "hex8_2p"]) == 0
    assert f"job {training}" in capsys.readouterr().out
    token = bench.ledger.lease(LEASE).token
    assert main(["lock", "hex8_2p", "--release", "--reason", "host burns"]) == 0
    assert capsys.readouterr().out.startswith("released, it was held by first\n")
    with pytest.raises(StaleTokenError):
        bench.ledger.check_token(LEASE, token)
    [forced] = bench.ledger.events(types=[EventType.LEASE_FORCED])
    assert forced.payload["reason"] == "host burns"
    assert audited(bench.ledger) == [("release lock", "host burns")]
    assert main(["lock", "hex8_2p", "--release"]) == 0
    assert "nobody holds the lock" in capsys.readouterr().out
    assert len(bench.ledger.audit()) == 1


def test_R23_a_generation_whose_lease_was_broken_ends_its_jobs_and_says_what_became_of_it(
    bench: Any, house: Home, training: str
) -> None:
    work = Work.of_run("hex8_2p", None, "first", bench.now, "tiny")
    bench.ledger.force_release_lease(LEASE, reason="host burns", actor="anna")
    closed = work.finish([Stage.TRAIN])
    assert LocalJobs(house.jobs).poll(training).over
    assert (closed.state, closed.outcome) == (GenerationState.FINISHED, Outcome.ERROR)
    assert closed.reason == "its run ended before train was done; its lease was broken by anna: host burns"
    assert bench.ledger.waiting_generations("hex8_2p") == []

    lease = work.grant()  # its run was cleared
    assert lease is not None
    bench.ledger.record_stage_result(closed.id, "train", 0, {}, {}, lease.token)
    bench.ledger.record_stage_result(closed.id, "promote", 0, {}, {"promoted": True}, lease.token)
    judged = {"verdict": "PASS", "reason": "all opponents passed"}
    bench.ledger.record_stage_result(closed.id, "gauntlet", 0, {}, judged, lease.token)
    bench.ledger.force_release_lease(LEASE, reason="me first", actor="anna")
    promoted = work.finish([Stage.TRAIN, Stage.GAUNTLET, Stage.PROMOTE])
    assert (promoted.outcome, promoted.reason) == (Outcome.PASS, "all opponents passed")

    other, _ = bench.running("second")
    bench.ledger.try_grant_generation(closed.id)  # waits, and is given up
    assert work.finish([]).outcome is Outcome.PASS, "it has not had its turn since"
    bench.ledger.force_release_lease(LEASE, reason="me first", actor="anna")
    given_up = Work.of_run("hex8_2p", None, "second", bench.now, "tiny").finish([])
    assert (given_up.id, given_up.outcome) == (other.id, Outcome.ERROR)
    assert given_up.reason == "its run was given up; its lease was broken by anna: me first"


def test_R23_a_lock_that_a_crash_left_is_released_without_a_reason(bench: Any) -> None:
    bench.running("crashed")
    assert release_training_lock("hex8_2p", force=True)[0].holder == "crashed"
    assert training_lock("hex8_2p").is_locked() is False
    assert bench.ledger.generations("hex8_2p")[0].state is GenerationState.WAITING
    generation, _ = bench.running("waits", config="hex8_3p")
    bench.ledger.note_wait(generation.id, "hex8_3p", Condition.GAMES)
    with pytest.raises(LockInUseError, match="in use by run waits, which waits for games"):
        release_training_lock("hex8_3p")


def test_R76_the_lock_without_a_config_lists_every_held_one(bench: Any) -> None:
    assert training_lock().get_holder() is None
    bench.running("one")
    bench.running("two", config="hex8_3p")
    assert [(one.config, one.holder) for one in training_lock().held()] == [("hex8_2p", "one"), ("hex8_3p", "two")]
    assert training_lock().get_holder() == "hex8_2p: one, hex8_3p: two"
    with pytest.raises(UsageError, match="unknown config 'hex8_5p'"):
        training_lock("hex8_5p")


def test_R23_the_lock_of_a_run_under_way_is_in_use_at_every_door_also_between_two_tasks(
    bench: Any, airflow: Pages, house: Home, capsys: Any
) -> None:
    bench.running("first")
    second = bench.generation("second", after=60)
    bench.ledger.note_wait(second.id, "hex8_2p", Condition.LEASE)
    airflow.runs_of = {"second": ("running", {"lease": "deferred"}), "first": ("running", {"train": "up_for_retry"})}
    here = controls()
    shown = status(house, here.settings, here.ledger, None, "hex8_2p").configs[0]
    assert shown.waiting == 1

    def dead() -> list[str]:
        found = findings(house, here.ledger, shown, airflow=here.airflow)
        return [line for one in found for cause in one.causes for line in cause.evidence if "nothing of it is" in line]

    for state in ("running", "queued"):
        airflow.runs_of["first"] = (state, {})
        assert main(["lock", "hex8_2p", "--release"]) == ExitCode.GATE_SAID_NO
        assert f"in use by run first, which is {state} (held by first" in capsys.readouterr().err
        with pytest.raises(LockInUseError):
            release_training_lock("hex8_2p", force=True)
        [refused] = [one for one in clear_training_states(here, By.here("", "http"), ["hex8_2p"]) if one.refused]
        assert f"run first, which is {state}" in str(refused.refused)
        assert dead() == []
    assert training_lock("hex8_2p").get_holder() == "first"
    bench.ledger.note_wait(shown.generation_id, "hex8_2p", Condition.TRAINING)
    assert [one.in_use for one in training_lock().held()] == ["run first, which waits for training"]
    used = verify("release lock", here, "hex8_2p")[0]
    assert (used.ok, used.evidence) == (True, "held by first, in use by run first, which waits for training")

    airflow.runs_of["first"] = ("failed", {})
    assert [one.in_use for one in training_lock().held()] == [None], "it asked of late, and is over all the same"
    assert len(dead()) == 1
    [cleared] = clear_training_states(here, By.here("", "http"), ["hex8_2p"])
    assert cleared.cleared == ["lock held by first"]
    assert bench.ledger.try_grant_generation(second.id) is not None, "the run that is over gives up its turn"


def test_R29_recover_takes_the_run_that_holds_the_lease_and_leaves_one_that_waits_for_it(
    bench: Any, airflow: Pages
) -> None:
    _, lease = bench.running("first")
    waits, stuck = ("running", {"lease": "deferred"}), ("running", {"train": "up_for_retry", "finish": "failed"})
    airflow.runs_of = {"later": ("queued", {}), "second": waits, "first": stuck}
    by = By.here("GPU at 0 %", "cli")
    assert recover(controls(), by, "hex8_2p", dry_run=True).tasks == {"train": "up_for_retry"}
    found = recover(controls(), by, "hex8_2p")
    assert (found.run_id, airflow.cleared) == ("first", [("first", ["train"])])
    airflow.runs_of["first"] = ("running", {"train": "failed", "finish": "running"})
    [told] = [one for one in verify("recover", controls(), "hex8_2p") if one.name == "no task is stuck"]
    assert (told.ok, told.evidence) == (False, "train failed")
    airflow.runs_of["first"] = ("failed", {})
    with pytest.raises(NothingToRecoverError, match="run second has no stuck task"):
        recover(controls(), by, "hex8_2p")
    bench.ledger.release_lease(LEASE, lease.token)
    assert recover(controls(), by, "hex8_2p", dry_run=True).run_id == "second", "nobody's lease keeps it waiting"


def test_R4_reset_ends_every_run_of_a_backfill(bench: Any, airflow: Pages) -> None:
    queued = [f"backfill__{number}" for number in range(230, 0, -1)]
    airflow.runs_of = dict.fromkeys(queued, ("queued", {})) | {"oldest": ("running", {}), "over": ("success", {})}
    assert reset(controls(), By.here("stuck", "cli"), "hex8_2p").runs == [*reversed(queued), "oldest"] == airflow.ended
    assert len(airflow.runs("hex8_2p")) == 232
    assert len(airflow.runs("hex8_2p", limit=1)) == 1


def test_R4_reset_clears_state_lease_and_breakers_and_keeps_every_artifact(
    bench: Any, training: str, house: Home, capsys: Any
) -> None:
    ledger: Ledger = bench.ledger
    first = ledger.generations("hex8_2p")[0]
    lease = ledger.lease(LEASE)
    assert lease is not None
    bench.net("net", first, lease)
    ledger.record_stage_result(first.id, "export", 0, {}, {"dataset": sha("net-data")}, lease.token)
    for _ in range(OPERATIONS.breaker_failures):
        breakers.note(ledger, "hex8_2p", Stage.TRAIN, InfrastructureError("broken"))
    before = ledger.artifacts(config="hex8_2p")
    assert main(["reset", "hex8_2p"]) == ExitCode.WRONG_USAGE
    assert main(["reset", "hex8_2p", "--reason", "stuck", "--json"]) == 0
    [found] = json.loads(capsys.readouterr().out)
    assert (found["jobs"], found["lease"], found["generations"], found["stages"], found["breakers"]) == (
        [training], "first", [first.id], 1, ["train"],
    )  # fmt: skip
    assert LocalJobs(house.jobs).poll(training).state is not JobState.RUNNING
    assert ledger.artifacts(config="hex8_2p") == before
    assert [run.stage for run in ledger.stage_runs(first.id)] == ["export"]
    assert ledger.generation(first.id).state is GenerationState.WITHDRAWN
    assert training_lock("hex8_2p").is_locked() is False
    assert ("reset", "stuck") in audited(ledger)
    assert get_pipeline_orchestrator().get_stage_status("hex8_2p", "train")["status"] == "idle"


def test_R4_resetting_all_asks_first_and_never_where_nobody_can_answer(bench: Any, capsys: Any) -> None:
    bench.running("one")
    bench.running("two", config="hex8_3p")
    assert main(["reset", "--all", "--reason", "new start"]) == ExitCode.WRONG_USAGE
    assert "say --yes" in capsys.readouterr().err
    assert len(training_lock().held()) == 2
    assert main(["reset", "--all", "--yes", "--reason", "new start"]) == 0
    assert training_lock().held() == []
    found = asyncio.run(get_pipeline_orchestrator().reset_all_pipeline_states())
    assert [one.generations for one in found] == [[]] * 12


def test_R24_a_training_in_the_cooldown_is_refused_with_its_end_and_force_needs_a_reason(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RINGRIFT_PROFILE", "standard")
    trained = {"job_id": "j", "weights": sha("n"), "path": "p", "dataset": sha("d"), "parent": None, "samples": 1}
    trained |= {"train_loss": 0.1, "validation_loss": 0.1}
    bench.ledger.record_event(EventType.TRAINING_COMPLETED, "hex8_2p", None, trained, now=bench.now)
    with pytest.raises(CooldownError, match=r"the next may begin at 20.*--force --reason WHY") as refused:
        trigger(controls(), By.here("", "cli"), "hex8_2p", "train")
    assert refused.value.until == bench.now + timedelta(seconds=PROFILES["standard"].cooldown_seconds)
    with pytest.raises(MissingReasonError, match="forcing train of hex8_2p needs a reason"):
        trigger(controls(), By.here("", "cli"), "hex8_2p", "train", force=True)
    with pytest.raises(PlatformNotRunningError, match="`ringrift up`"):
        trigger(controls(), By.here("now", "cli"), "hex8_2p", "train", force=True)
    assert bench.ledger.audit() == []


def test_R3_a_breaker_is_not_passed_over_by_force(bench: Any) -> None:
    for _ in range(OPERATIONS.breaker_failures):
        breakers.note(bench.ledger, "hex8_2p", Stage.EXPORT, InfrastructureError("broken"))
    with pytest.raises(breakers.BreakerOpenError):
        trigger(controls(), By.here("now", "cli"), "hex8_2p", "export", force=True)


@pytest.mark.parametrize(
    "arguments",
    [["start", "hex8_2p"], ["trigger", "hex8_2p", "export"], ["recover", "hex8_2p"],
     ["recover", "hex8_2p", "--full", "--reason", "stalled"]],
)  # fmt: skip
def test_what_needs_a_platform_says_so_and_changes_nothing(bench: Any, arguments: list[str], capsys: Any) -> None:
    assert main(arguments) == ExitCode.INFRASTRUCTURE
    assert "start it with `ringrift up`" in capsys.readouterr().err
    assert bench.ledger.audit() == []


@pytest.mark.parametrize("arguments", [["start", "hex8_5p"], ["trigger", "hex8_2p", "exprot"], ["lock", "hex8_5p"],
                                       ["reset"], ["reset", "hex8_2p", "--all"], ["lock", "--release"]])  # fmt: skip
def test_F16_control_with_wrong_names_is_one_line_and_exit_code_2(arguments: list[str], capsys: Any) -> None:
    assert main(arguments) == ExitCode.WRONG_USAGE
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_R52_an_evaluation_of_an_unknown_net_or_priority_is_refused(bench: Any, capsys: Any) -> None:
    generation, lease = bench.running()
    bench.net("net", generation, lease)
    assert main(["evaluate", "hex8_2p", "--model", "0123456789"]) == ExitCode.NO_DATA
    content, _ = Store(Home.find()).put(b"weights", ".safetensors")
    common = {"size": 7, "config": "hex8_2p", "generation": generation.id, "token": lease.token}
    bench.ledger.record_artifact(content, "weights", "w", parents=[], meta={}, **common)
    assert main(["evaluate", "hex8_2p", "--model", content, "--priority", "urgent"]) == ExitCode.WRONG_USAGE
    assert "valid: normal, high" in capsys.readouterr().err
    assert main(["evaluate", "hex8_2p", "--model", content]) == ExitCode.INFRASTRUCTURE
    assert bench.ledger.audit() == []
    assert main(["evaluation", "hex8_2p", "--json"]) == ExitCode.DONE
    assert json.loads(capsys.readouterr().out) == {"last": None, "queued": []}


def test_R30_clearing_the_training_state_frees_the_lock_and_forgets_the_failed_training(bench: Any) -> None:
    generation, lease = bench.running("crashed")
    bench.ledger.record_stage_error(generation.id, "train", 0, "CUDA out of memory", lease.token)
    bench.ledger.record_stage_result(generation.id, "export", 0, {}, {"dataset": sha("d")}, lease.token)
    assert main(["clear-training-state", "hex8_2p"]) == 0
    assert training_lock("hex8_2p").is_locked() is False
    assert [run.stage for run in bench.ledger.stage_runs(generation.id)] == ["export"]
    assert [row.action for row in bench.ledger.audit()] == ["release lock", "clear training state"]


def test_R30_a_dry_run_shows_all_five_steps_and_changes_nothing(bench: Any, training: str, capsys: Any) -> None:
    generation, lease = bench.ledger.generations("hex8_2p")[0], bench.ledger.lease(LEASE)
    common = {"size": 1, "config": "hex8_2p", "generation": generation.id, "token": lease.token}
    meta = {"games": 9, "moves": 10**6}
    bench.ledger.record_artifact(sha("g"), "games", "g", parents=[], meta=meta, **common)
    bench.ledger.record_parity(
        sha("g"), sha("p"), passed=True, checked=9, failed=0, generation=generation.id, token=lease.token
    )
    assert main(["recover", "hex8_2p", "--full", "--dry-run"]) == ExitCode.WRONG_USAGE
    capsys.readouterr()
    assert main(["recover", "hex8_2p", "--full", "--dry-run", "--reason", "stalled", "--json"]) == 0
    steps = json.loads(capsys.readouterr().out)
    names = ["stop training", "clear training state", "verify data", "restart", "monitor"]
    assert [step["name"] for step in steps] == names
    assert steps[0]["found"] == training
    assert steps[1]["found"] == "lock held by first"
    assert [step["done"] for step in steps] == [False, False, True, False, False]
    assert bench.ledger.audit() == []
    assert training_lock("hex8_2p").is_locked() is True


def test_R75_an_event_makes_no_canonical_and_of_the_canonical_links_and_deliveries_are_done_again(
    bench: Any, house: Home
) -> None:
    house.settings_file.write_text("destinations: [delivered]\n")
    generation, lease = bench.running()
    content, _ = Store(house).put(b"weights", ".safetensors")
    common = {"size": 7, "config": "hex8_2p", "generation": generation.id, "token": lease.token}
    bench.ledger.record_artifact(content, "weights", "w", parents=[], meta={}, **common)
    with pytest.raises(NotCanonicalError, match=r"no net is in force, not .*an event makes no net canonical"):
        emit_model_promoted("hex8_2p", content, "manual_promotion")
    bench.ledger.compare_and_swap_canonical(
        "hex8_2p", None, content, lease.token, generation=generation.id, reason="won", actor="test", kind="forced"
    )
    file = house.root / "my_model.safetensors"
    file.write_bytes(b"weights")
    found = emit_model_promoted("hex8_2p", str(file), "manual_promotion")
    assert found.links == ["canonical_hex8_2p.safetensors", "ringrift_best_hex8_2p.safetensors"]
    assert [(one.destination, one.verified) for one in found.deliveries] == [(str(house.root / "delivered"), True)]
    events = bench.ledger.events(types=[EventType.MODEL_PROMOTED])
    assert [event.payload["reason"] for event in events] == ["won", "manual_promotion"]
    assert bench.ledger.canonical("hex8_2p").sha == content
    file.write_bytes(b"other weights")
    with pytest.raises(NotCanonicalError, match=f"{content[:12]} is in force"):
        emit_model_promoted("hex8_2p", str(file), "manual_promotion")
    assert len(bench.ledger.events(types=[EventType.MODEL_PROMOTED])) == 2
