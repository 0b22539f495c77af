"""The one job protocol, over both transports: this machine, and a host behind a real sshd."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringrift_ops.errors import ExitCode
from ringrift_ops.hosts.jobs import (
    Job,
    JobConflictError,
    JobMisusedError,
    JobNameError,
    JobNotFinishedError,
    JobState,
    NoSuchJobError,
    Transport,
)
from ringrift_ops.hosts.local import LocalJobs
from ringrift_ops.hosts.processes import job_processes
from ringrift_ops.hosts.remote import RemoteJobs, for_host
from tests.hosts.sshd import Sshd, until

NAME = "hex8_2p-g1-train"
SLEEP = "import time; time.sleep(600)"
FINISH = """
import json
spec = json.load(open("spec.json"))
open("effects.jsonl", "w").write('{"record": "games"}\\n')
json.dump({"answer": spec["number"] + 1}, open("result.json", "w"))
"""


def a_job(program: str, *, number: int = 1, token: int = 1, job_id: str = NAME) -> Job:
    return Job(
        job_id=job_id,
        argv=(sys.executable, "-c", program),
        spec={"number": number, "token": token},
        timeout_seconds=60.0,
        grace_seconds=2.0,
    )


@pytest.fixture(params=["local", "ssh"])
def jobs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Transport]:
    if request.param == "local":
        local = LocalJobs(tmp_path / "jobs")
        transport: Transport = local
    else:
        sshd: Sshd = request.getfixturevalue("sshd")
        local = LocalJobs(sshd.work / "jobs")
        transport = sshd.jobs()
    yield transport
    local.kill_all()
    assert [one for name in local.all() for one in job_processes(local.folder(name), None)] == []


def over(jobs: Transport, name: str = NAME) -> JobState:
    until(lambda: jobs.poll(name).over, "the end of the job")
    return jobs.poll(name).state


def test_job_is_submitted_adopted_and_collected_with_what_it_has_for_the_ledger(jobs: Transport) -> None:
    job = a_job(
        "import pathlib, time\nwhile not pathlib.Path('../go').exists(): time.sleep(0.01)\n" + FINISH, number=41
    )
    first = jobs.submit_or_adopt(job)
    again = jobs.submit_or_adopt(job.model_copy(update={"spec": {"number": 41, "token": 2}}))
    assert (first.adopted, again.adopted, again.attempt) == (False, True, 1)
    with pytest.raises(JobNotFinishedError, match="still runs"):
        jobs.collect(NAME)
    end = f"ringrift jobs {NAME} --kill" + (f" --host {jobs.name}" if isinstance(jobs, RemoteJobs) else "")
    with pytest.raises(JobConflictError, match=f"job {NAME} runs with another spec; .*`{end}`"):
        jobs.submit_or_adopt(a_job(SLEEP, number=2))
    helper = a_job("open('../go', 'w')", job_id="hex8_2p-g1-export")
    jobs.submit_or_adopt(helper)
    assert over(jobs) is JobState.DONE
    assert jobs.collect(NAME) == {"answer": 42}
    assert jobs.effects(NAME) == [{"record": "games"}]
    assert jobs.spec(NAME) == {"number": 41, "token": 1}
    assert jobs.submit_or_adopt(job).state is JobState.DONE
    assert jobs.all() == ["hex8_2p-g1-export", NAME]


def test_F16_failed_job_raises_the_error_of_its_exit_code_in_the_stages_own_words(jobs: Transport) -> None:
    said = {"error": {"type": "SomeError", "message": "größe der Änderung", "exit_code": 2}}
    jobs.submit_or_adopt(a_job(f"import json, sys; json.dump({said!r}, open('result.json', 'w')); sys.exit(2)"))
    assert over(jobs) is JobState.FAILED
    with pytest.raises(JobMisusedError, match="größe der Änderung"):
        jobs.collect(NAME)
    assert jobs.poll(NAME).exit_code is ExitCode.WRONG_USAGE


def test_F23_kill_ends_the_whole_group_and_the_next_attempt_goes_on_in_the_same_folder(jobs: Transport) -> None:
    family = 'import subprocess, sys; subprocess.run([sys.executable, \'-c\', \'open("up", "w"); ' + SLEEP + "'])"
    jobs.submit_or_adopt(a_job(family))
    until(lambda: jobs.poll(NAME).state is JobState.RUNNING and "== attempt 1" in jobs.log(NAME).text, "the job")
    status = jobs.kill(NAME)
    assert (status.state, status.raw_code, status.reason) == (JobState.FAILED, 143, "killed on request")
    assert jobs.submit_or_adopt(a_job(FINISH)).attempt == 2
    assert over(jobs) is JobState.DONE


def test_log_read_by_offset_repeats_nothing_and_heartbeat_is_the_last_whole_line(jobs: Transport) -> None:
    beat = '{"done": 1, "total": 3}\\n{"done": 2, "tot'
    jobs.submit_or_adopt(a_job(f"open('heartbeat.jsonl', 'w').write('{beat}'); print('größer ' * 99)"))
    over(jobs)
    offset, text = 0, ""
    while (part := jobs.log(NAME, offset, limit=101)).text:
        offset, text = part.next_offset, text + part.text
    assert text.count("größer") == 99
    assert "�" not in text
    status = jobs.poll(NAME)
    assert status.heartbeat == {"done": 1, "total": 3}
    assert status.age is not None


def test_absent_job_is_a_state_when_polled_and_an_error_when_collected(jobs: Transport) -> None:
    assert jobs.poll(NAME).state is JobState.ABSENT
    assert (jobs.spec(NAME), jobs.effects(NAME), jobs.log(NAME).text) == (None, [], "")
    at = " --host one" if isinstance(jobs, RemoteJobs) else ""
    with pytest.raises(NoSuchJobError, match=f"no job hex8_2p-g1-train.*`ringrift jobs{at}` lists them"):
        jobs.collect(NAME)
    jobs.forget(NAME)
    jobs.set_aside(NAME, "nothing there")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("see `ringrift jobs J --logs`, then", "see `ringrift jobs J --logs --host a`, then"),
        ("see `ringrift jobs J --host b --kill`", "see `ringrift jobs J --host b --kill`"),
        ("see `ringrift lock` and `x`", "see `ringrift lock` and `x`"),
    ],
)
def test_a_command_that_a_host_names_means_that_host_here_too(said: str, told: str) -> None:
    assert for_host("a", said) == told


def test_F24_what_came_too_late_is_kept_aside_with_the_reason_and_the_name_is_free(jobs: Transport, sshd: Sshd) -> None:
    jobs.submit_or_adopt(a_job(SLEEP))
    jobs.set_aside(NAME, "generation 1 went on elsewhere")
    assert jobs.poll(NAME).state is JobState.ABSENT
    root = jobs.root if isinstance(jobs, LocalJobs) else sshd.work / "jobs"
    (kept,) = (root / "_refused").iterdir()
    assert "went on elsewhere" in (kept / "reason.json").read_text()
    assert jobs.submit_or_adopt(a_job(FINISH)).attempt == 1
    over(jobs)
    jobs.forget(NAME)
    assert jobs.all() == []


@pytest.mark.parametrize("name", ["../x", "a;rm -rf x", "$(id)", "", "a b", "x\ny", "A", "a/../b"])
def test_F24_hostile_name_goes_nowhere(jobs: Transport, name: str) -> None:
    with pytest.raises(JobNameError):
        jobs.poll(name)


@pytest.mark.parametrize("text", ["$(touch {0})", "`touch {0}`", "; touch {0};", "' ; touch {0} '", "\n touch {0} \n"])
def test_hostile_text_in_a_spec_and_in_arguments_is_text(jobs: Transport, tmp_path: Path, text: str) -> None:
    trap = tmp_path / "trap"
    hostile = text.format(trap)
    program = (
        "import json, sys; asked = json.load(open('spec.json'))['t']\n"
        "json.dump({'said': sys.argv[1], 'spec': asked}, open('result.json', 'w'))"
    )
    job = a_job(program).model_copy(update={"argv": (sys.executable, "-c", program, hostile), "spec": {"t": hostile}})
    jobs.submit_or_adopt(job)
    assert over(jobs) is JobState.DONE
    assert jobs.collect(NAME) == {"said": hostile, "spec": hostile}
    assert not trap.exists()


BEAT = "open('heartbeat.jsonl', 'a').write('{{\"phase\": \"{0}\", \"done\": 1}}\\n')\n"


@pytest.mark.hosts_campaign
def test_R40_an_epoch_over_its_time_is_ended_with_all_it_started_and_quick_ones_are_not(jobs: Transport) -> None:
    """The heartbeat's own phase is what is measured: three short epochs pass a limit that the fourth does not."""
    program = "import subprocess, sys, time\n" + "".join(
        BEAT.format(f"epoch {number}") + "time.sleep(1.5)\n" for number in (1, 2, 3)
    )
    hung = f"subprocess.run([sys.executable, '-c', {SLEEP!r}])"
    job = a_job(program + BEAT.format("epoch 4") + hung).model_copy(update={"phase_seconds": 4.0})
    jobs.submit_or_adopt(job)
    assert over(jobs) is JobState.FAILED
    status = jobs.poll(NAME)
    assert (status.raw_code, status.reason) == (124, "ran past its limit of 4 s in epoch 4")


def test_R40_a_training_over_its_whole_time_is_ended(jobs: Transport) -> None:
    jobs.submit_or_adopt(a_job(SLEEP).model_copy(update={"timeout_seconds": 1.0, "phase_seconds": 30.0}))
    assert over(jobs) is JobState.FAILED
    assert jobs.poll(NAME).reason == "ran past its limit of 1 s"
