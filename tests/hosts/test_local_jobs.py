"""Jobs of real processes: adopted, killed, resumed and never started twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ringrift_ops.errors import ExitCode
from ringrift_ops.hosts.folder import JobFolder, locked
from ringrift_ops.hosts.jobs import (
    Job,
    JobConflictError,
    JobDiedError,
    JobFailedError,
    JobMisusedError,
    JobNameError,
    JobNotFinishedError,
    JobNotStartedError,
    JobRefusedError,
    JobState,
    JobWithoutDataError,
    NoSuchJobError,
    job_id_of,
)
from ringrift_ops.hosts.local import LocalJobs
from ringrift_ops.hosts.processes import ProcessIdentity, identify, job_processes
from ringrift_ops.store import WriteError

NAME = "hex8_2p-g1-train"
SLEEP = "import time; time.sleep(600)"
FINISH = """
import json
spec = json.load(open("spec.json"))
json.dump({"answer": spec["number"] + 1}, open("result.json", "w"))
"""
PATIENCE = 30.0


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[LocalJobs]:
    local = LocalJobs(tmp_path / "jobs")
    yield local
    local.kill_all()
    assert [local.all(), left_running(local)] == [local.all(), []]


def left_running(jobs: LocalJobs) -> list[ProcessIdentity]:
    return [process for name in jobs.all() for process in job_processes(jobs.folder(name), None)]


def a_job(program: str, *, number: int = 1, job_id: str = NAME, timeout: float = 60.0, grace: float = 2.0) -> Job:
    return Job(
        job_id=job_id,
        argv=(sys.executable, "-c", program),
        spec={"number": number, "token": 1},
        timeout_seconds=timeout,
        grace_seconds=grace,
    )


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE:g} s for: {what}"
        time.sleep(0.01)


def written(jobs: LocalJobs, name: str) -> Callable[[], bool]:
    """Whether the job's command has written the file ``name`` into its folder."""
    return lambda: (jobs.folder(NAME) / name).exists()


def test_job_hands_back_what_its_command_wrote(jobs: LocalJobs) -> None:
    submitted = jobs.submit_or_adopt(a_job(FINISH, number=41))
    assert (submitted.adopted, submitted.attempt) == (False, 1)
    status = jobs.wait(NAME, PATIENCE)
    assert (status.state, status.exit_code, status.reason) == (JobState.DONE, ExitCode.DONE, "exited")
    assert jobs.collect(NAME) == {"answer": 42}


def test_submitting_a_running_job_adopts_it_and_a_finished_one_is_taken_as_it_is(jobs: LocalJobs) -> None:
    job = a_job("import pathlib, time\nwhile not pathlib.Path('go').exists(): time.sleep(0.01)\n" + FINISH)
    jobs.submit_or_adopt(job)
    first = jobs.poll(NAME)
    again = jobs.submit_or_adopt(job)
    assert (again.adopted, again.attempt, jobs.poll(NAME).pid) == (True, 1, first.pid)
    (jobs.folder(NAME) / "go").touch()
    jobs.wait(NAME, PATIENCE)
    finished = jobs.submit_or_adopt(job)
    assert (finished.adopted, finished.state) == (True, JobState.DONE)
    assert jobs.log(NAME).text.count("== attempt") == 1


def test_F24_a_newer_fencing_token_adopts_a_running_job_but_another_spec_is_refused(jobs: LocalJobs) -> None:
    job = a_job(SLEEP)
    jobs.submit_or_adopt(job)
    renewed = job.model_copy(update={"spec": {"number": 1, "token": 2}})
    assert jobs.submit_or_adopt(renewed).adopted
    with pytest.raises(JobConflictError, match="runs with another spec"):
        jobs.submit_or_adopt(a_job(SLEEP, number=2))


def test_job_done_for_another_spec_is_done_again_for_this_one(jobs: LocalJobs) -> None:
    jobs.submit_or_adopt(a_job(FINISH, number=1))
    jobs.wait(NAME, PATIENCE)
    assert jobs.submit_or_adopt(a_job(FINISH, number=10)).attempt == 2
    jobs.wait(NAME, PATIENCE)
    assert jobs.collect(NAME) == {"answer": 11}


@pytest.mark.parametrize(
    ("code", "error"),
    [(1, JobRefusedError), (2, JobMisusedError), (3, JobWithoutDataError), (4, JobFailedError), (77, JobFailedError)],
)
def test_F16_failed_job_raises_the_error_of_its_exit_code_in_the_stages_own_words(
    jobs: LocalJobs, code: int, error: type[Exception]
) -> None:
    said = {"error": {"type": "SomeError", "message": "the gate is shut", "exit_code": code}}
    jobs.submit_or_adopt(a_job(f"import json, sys; json.dump({said!r}, open('result.json', 'w')); sys.exit({code})"))
    jobs.wait(NAME, PATIENCE)
    with pytest.raises(error, match="the gate is shut") as caught:
        jobs.collect(NAME)
    assert caught.value.exit_code == (code if code <= 4 else 4)  # type: ignore[attr-defined]


@pytest.mark.parametrize("code", [1, 3])
def test_gates_no_is_an_answer_with_a_result_and_not_an_error(jobs: LocalJobs, code: int) -> None:
    program = f"import json, sys; json.dump({{'verdict': 'FAIL'}}, open('result.json', 'w')); sys.exit({code})"
    jobs.submit_or_adopt(a_job(program))
    status = jobs.wait(NAME, PATIENCE)
    assert (status.state, status.exit_code) == (JobState.FAILED, ExitCode(code))
    assert jobs.collect(NAME) == {"verdict": "FAIL"}


def test_result_of_a_job_that_was_killed_afterwards_does_not_count(jobs: LocalJobs) -> None:
    program = "import os; open('result.json', 'w').write('{}'); os.kill(os.getpid(), 9)"
    jobs.submit_or_adopt(a_job(program))
    jobs.wait(NAME, PATIENCE)
    with pytest.raises(JobFailedError, match="ended by SIGKILL"):
        jobs.collect(NAME)


def test_command_that_prints_and_fails_is_quoted(jobs: LocalJobs) -> None:
    jobs.submit_or_adopt(a_job("import sys; print('no such net'); sys.exit(4)"))
    jobs.wait(NAME, PATIENCE)
    with pytest.raises(JobFailedError, match="no such net"):
        jobs.collect(NAME)


def test_command_that_ends_well_without_a_result_is_a_failure(jobs: LocalJobs) -> None:
    jobs.submit_or_adopt(a_job("pass"))
    jobs.wait(NAME, PATIENCE)
    with pytest.raises(JobFailedError, match=r"left no result\.json"):
        jobs.collect(NAME)


@pytest.mark.parametrize(
    ("program", "code", "reason"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 137, "ended by SIGKILL"),
        ("import os, signal; os.killpg(0, signal.SIGKILL)", 137, "ended by SIGKILL"),
        ("import os; os.closerange(0, 100); os._exit(5)", 5, "exited"),
        ("import os; os.abort()", 134, "ended by SIGABRT"),
    ],
)
def test_exit_code_is_written_whatever_the_command_does(jobs: LocalJobs, program: str, code: int, reason: str) -> None:
    jobs.submit_or_adopt(a_job(program))
    status = jobs.wait(NAME, PATIENCE)
    assert (status.raw_code, status.reason, status.exit_code) == (code, reason, ExitCode.INFRASTRUCTURE)


def test_command_that_does_not_exist_is_a_failed_job_with_the_reason(jobs: LocalJobs) -> None:
    jobs.submit_or_adopt(a_job("").model_copy(update={"argv": ("/no/such/program",)}))
    status = jobs.wait(NAME, PATIENCE)
    assert (status.state, status.raw_code) == (JobState.FAILED, 127)
    assert status.reason == "could not start: No such file or directory"


FAMILY = """
import os, pathlib, subprocess, sys, time
grandchild = '''
import os, signal, time
{ignore}os.setsid()
open('grandchild', 'w').write(str(os.getpid()))
time.sleep(600)
'''
subprocess.Popen([sys.executable, "-c", grandchild])
while not (os.path.exists("grandchild") and pathlib.Path("grandchild").read_text()): time.sleep(0.01)
open("ready", "w").close()
time.sleep({stay})
"""


def family(*, stay: int, stubborn: bool = False) -> str:
    ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN); " if stubborn else ""
    return FAMILY.format(ignore=ignore, stay=stay)


@pytest.mark.parametrize("stubborn", [False, True])
def test_F23_kill_ends_children_and_grandchildren_even_those_with_a_session_of_their_own(
    jobs: LocalJobs, stubborn: bool
) -> None:
    jobs.submit_or_adopt(a_job(family(stay=600, stubborn=stubborn), grace=0.3))
    until(written(jobs, "ready"), "the family")
    grandchild = identify(int((jobs.folder(NAME) / "grandchild").read_text()))
    assert grandchild is not None
    status = jobs.kill(NAME)
    assert (status.state, status.raw_code, status.reason) == (JobState.FAILED, 143, "killed on request")
    assert not grandchild.alive()


def test_F23_what_a_command_leaves_running_ends_with_it(jobs: LocalJobs) -> None:
    jobs.submit_or_adopt(a_job(family(stay=0)))
    assert jobs.wait(NAME, PATIENCE).state is JobState.DONE
    grandchild = int((jobs.folder(NAME) / "grandchild").read_text())
    assert identify(grandchild) is None


def test_F23_job_over_its_time_limit_is_ended_whole(jobs: LocalJobs) -> None:
    jobs.submit_or_adopt(a_job(family(stay=600), timeout=1.0, grace=0.3))
    status = jobs.wait(NAME, PATIENCE)
    assert (status.state, status.raw_code, status.reason) == (JobState.FAILED, 124, "ran past its limit of 1 s")
    assert status.exit_code is ExitCode.INFRASTRUCTURE


def test_killed_command_is_reported_and_the_next_attempt_uses_the_same_folder(jobs: LocalJobs) -> None:
    program = "import os, time; open('child', 'w').write(str(os.getpid())); time.sleep(600)"
    jobs.submit_or_adopt(a_job(program))
    until(lambda: written(jobs, "child")() and (jobs.folder(NAME) / "child").read_text() != "", "the command")
    os.kill(int((jobs.folder(NAME) / "child").read_text()), signal.SIGKILL)
    assert jobs.wait(NAME, PATIENCE).reason == "ended by SIGKILL"
    (jobs.folder(NAME) / "checkpoint").touch()
    again = jobs.submit_or_adopt(a_job(FINISH))
    assert (again.adopted, again.attempt) == (False, 2)
    assert jobs.wait(NAME, PATIENCE).state is JobState.DONE
    assert (jobs.folder(NAME) / "checkpoint").exists()
    assert jobs.all() == [NAME]


def test_F24_killed_runner_makes_a_dead_job_whose_command_is_ended_before_the_next_attempt(jobs: LocalJobs) -> None:
    jobs.submit_or_adopt(a_job(family(stay=600)))
    until(written(jobs, "ready"), "the family")
    runner = jobs.poll(NAME).pid
    assert runner is not None
    os.kill(runner, signal.SIGKILL)
    until(lambda: jobs.poll(NAME).state is JobState.DEAD, "the death of the runner")
    with pytest.raises(JobDiedError, match="submit it again"):
        jobs.collect(NAME)
    orphans = job_processes(jobs.folder(NAME), None)
    assert len(orphans) == 2
    again = jobs.submit_or_adopt(a_job(FINISH))
    assert (again.adopted, again.attempt) == (False, 2)
    assert not any(process.alive() for process in orphans)
    assert jobs.wait(NAME, PATIENCE).state is JobState.DONE


def test_reaping_ends_what_a_killed_runner_left_behind(jobs: LocalJobs) -> None:
    jobs.submit_or_adopt(a_job(family(stay=600)))
    until(written(jobs, "ready"), "the family")
    os.kill(jobs.poll(NAME).pid or 0, signal.SIGKILL)
    until(lambda: jobs.poll(NAME).over, "the death of the runner")
    assert jobs.reap() == [NAME]
    assert left_running(jobs) == []
    assert jobs.reap() == []


SUBMIT = """
import json, sys
from pathlib import Path
from ringrift_ops.hosts.jobs import Job
from ringrift_ops.hosts.local import LocalJobs
folder, job = Path(sys.argv[1]), Job.model_validate_json(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
print(LocalJobs(folder).submit_or_adopt(job).model_dump_json(), flush=True)
sys.stdin.readline()
"""


def submitter(jobs: LocalJobs, job: Job) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SUBMIT, str(jobs.root), job.model_dump_json()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_F24_submitters_at_the_same_moment_start_one_job(jobs: LocalJobs) -> None:
    submitters = [submitter(jobs, a_job(SLEEP)) for _ in range(4)]
    for process in submitters:
        tell(process)
    answers = [json.loads(process.stdout.readline()) for process in submitters if process.stdout]
    assert sorted(answer["adopted"] for answer in answers) == [False, True, True, True]
    assert {answer["attempt"] for answer in answers} == {1}
    assert len(job_processes(jobs.folder(NAME), None)) == 1
    for process in submitters:
        process.communicate("\n")


def test_F24_job_outlives_the_submitter_that_is_killed_and_is_adopted_by_the_next(jobs: LocalJobs) -> None:
    process = submitter(jobs, a_job(SLEEP))
    tell(process)
    assert process.stdout is not None
    json.loads(process.stdout.readline())
    before = jobs.poll(NAME)
    process.kill()
    process.communicate()
    assert jobs.submit_or_adopt(a_job(SLEEP)).adopted
    assert (before.state, jobs.poll(NAME).pid) == (JobState.RUNNING, before.pid)


def test_F24_runner_of_a_killed_submitter_that_has_not_yet_said_who_it_is_is_waited_for(jobs: LocalJobs) -> None:
    """Its attempt counts: to start the next one would end a command that has just begun."""
    job = a_job(SLEEP)
    jobs.submit_or_adopt(job)
    folder = JobFolder(jobs.folder(NAME))
    said = folder.pid.read_bytes()
    folder.pid.unlink()  # what a submitter sees between the runner's lock and its name

    def say() -> None:
        time.sleep(0.3)
        folder.pid.write_bytes(said)

    with ThreadPoolExecutor(1) as later:
        told = later.submit(say)
        again = jobs.submit_or_adopt(job)
        told.result()
    assert (again.adopted, again.attempt) == (True, 1)
    assert len(job_processes(jobs.folder(NAME), None)) == 1


@pytest.mark.parametrize("milliseconds", [0, 10, 20, 40, 80, 160])
def test_F24_submitter_killed_in_the_middle_leaves_one_job_or_none(jobs: LocalJobs, milliseconds: int) -> None:
    process = submitter(jobs, a_job(SLEEP))
    tell(process)
    time.sleep(milliseconds / 1000)
    process.kill()
    process.communicate()
    jobs.submit_or_adopt(a_job(SLEEP))
    status = jobs.poll(NAME)
    assert status.state is JobState.RUNNING
    until(lambda: len(job_processes(jobs.folder(NAME), None)) == 1, "one command")
    assert jobs.log(NAME).text.count("== attempt") == 1


def test_job_is_running_while_its_submitter_still_starts_it_and_dead_when_that_one_is_gone(jobs: LocalJobs) -> None:
    folder = JobFolder(jobs.folder(NAME))
    folder.path.mkdir(parents=True)
    folder.job.write_text('{"attempt": 1}')
    with locked(folder.submit_lock, wait=True):
        assert jobs.poll(NAME).state is JobState.RUNNING
    assert jobs.poll(NAME).state is JobState.DEAD
    assert jobs.poll(NAME).reason == "its submitter ended before the job began"


def test_pid_of_another_boot_or_a_reused_pid_is_not_the_job(jobs: LocalJobs) -> None:
    jobs.submit_or_adopt(a_job(SLEEP))
    folder = JobFolder(jobs.folder(NAME))
    record = json.loads(folder.pid.read_text())
    for field in ("boot_id", "started"):
        folder.pid.write_text(json.dumps(record | {"process": record["process"] | {field: "another"}}))
        assert jobs.poll(NAME).state is JobState.DEAD
    folder.pid.write_text(json.dumps(record))
    assert jobs.poll(NAME).state is JobState.RUNNING


def test_log_read_by_offset_repeats_nothing_and_goes_on_over_attempts(jobs: LocalJobs) -> None:
    program = "import sys; print('größer ' * 400); sys.exit(4)"
    offset, text = 0, ""
    for _ in range(2):
        jobs.submit_or_adopt(a_job(program))
        jobs.wait(NAME, PATIENCE)
        while (part := jobs.log(NAME, offset, limit=101)).text:
            offset, text = part.next_offset, text + part.text
    assert text == (jobs.folder(NAME) / "log.txt").read_text(encoding="utf-8")
    assert text.count("größer") == 800
    assert "�" not in text
    assert jobs.log(NAME, offset).next_offset == offset


def test_poll_shows_the_last_whole_heartbeat(jobs: LocalJobs) -> None:
    lines = '{"done": 1, "total": 3}\\n{"done": 2, "total": 3}\\n{"done": 3, "tot'
    jobs.submit_or_adopt(a_job(f"open('heartbeat.jsonl', 'w').write('{lines}')"))
    status = jobs.wait(NAME, PATIENCE)
    assert status.heartbeat == {"done": 2, "total": 3}
    assert status.heartbeat_age is not None
    assert status.heartbeat_age >= 0.0


def test_absent_job_is_a_state_when_polled_and_an_error_when_collected_or_killed(jobs: LocalJobs) -> None:
    assert jobs.poll(NAME).state is JobState.ABSENT
    assert jobs.log(NAME).text == ""
    with pytest.raises(NoSuchJobError, match="no job hex8_2p-g1-train"):
        jobs.collect(NAME)
    with pytest.raises(NoSuchJobError):
        jobs.kill(NAME)


def test_collecting_a_running_job_is_an_error(jobs: LocalJobs) -> None:
    jobs.submit_or_adopt(a_job(SLEEP))
    with pytest.raises(JobNotFinishedError, match="still runs"):
        jobs.collect(NAME)


def test_kill_all_ends_every_running_job_and_leaves_the_finished_ones(jobs: LocalJobs) -> None:
    jobs.submit_or_adopt(a_job(FINISH, job_id="hex8_2p-g1-export"))
    jobs.wait("hex8_2p-g1-export", PATIENCE)
    names = [job_id_of("hex8_2p", 1, "selfplay", shard) for shard in range(2)]
    for name in names:
        jobs.submit_or_adopt(a_job(SLEEP, job_id=name))
    assert jobs.kill_all() == names
    assert jobs.collect("hex8_2p-g1-export") == {"answer": 2}
    assert jobs.running() == []


def test_secrets_of_airflow_do_not_reach_the_job_and_the_folder_is_closed_to_others(
    jobs: LocalJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "hush")
    monkeypatch.setenv("RINGRIFT_SOMETHING", "kept")
    program = "import json, os; json.dump(dict(os.environ), open('result.json', 'w'))"
    jobs.submit_or_adopt(a_job(program).model_copy(update={"env": {"EXTRA": "added"}}))
    jobs.wait(NAME, PATIENCE)
    seen = jobs.collect(NAME)
    assert (seen.get("AIRFLOW__API_AUTH__JWT_SECRET"), seen["RINGRIFT_SOMETHING"], seen["EXTRA"]) == (
        None,
        "kept",
        "added",
    )
    assert jobs.folder(NAME).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", ["../evil", "a/b", "", "A", "x..y", "a b", ".hidden", "x" * 200])
def test_job_ids_that_are_not_plain_names_are_refused(jobs: LocalJobs, name: str) -> None:
    with pytest.raises(JobNameError):
        jobs.poll(name)


def test_jobs_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="cannot write"):
        LocalJobs(tmp_path / "file" / "jobs").submit_or_adopt(a_job(FINISH))


def test_runner_that_cannot_begin_says_why(jobs: LocalJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(JobNotStartedError, match="No such file"):
        jobs.submit_or_adopt(a_job(FINISH))
