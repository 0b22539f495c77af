"""Jobs in containers that share RINGRIFT_HOME: each numbers its own processes and can signal no other's.

Two pid namespaces stand for two containers; the folder, and with it the locks, is the same.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ringrift_ops.hosts.jobs import Job, JobState
from ringrift_ops.hosts.local import LocalJobs

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None, reason="pid namespaces are root's to make"
)

NAME = "hex8_2p-g1-train"
SUBMIT = """
import json, sys, time
from pathlib import Path
from ringrift_ops.hosts.jobs import Job
from ringrift_ops.hosts.local import LocalJobs
job = Job.model_validate_json(sys.argv[2])
print(LocalJobs(Path(sys.argv[1])).submit_or_adopt(job).model_dump_json(), flush=True)
time.sleep(600)
"""


class Container:
    """A pid namespace in which a worker has submitted a job, and lives on."""

    def __init__(self, jobs: LocalJobs, job: Job) -> None:
        self.process = subprocess.Popen(
            ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc",
             sys.executable, "-c", SUBMIT, str(jobs.root), job.model_dump_json()],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.submitted = json.loads(self.process.stdout.readline())

    def end(self) -> None:
        """The container with all in it, at once."""
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


@pytest.fixture
def jobs(tmp_path: Path) -> LocalJobs:
    return LocalJobs(tmp_path / "jobs")


@pytest.fixture
def start(jobs: LocalJobs) -> Iterator[Callable[[str], Container]]:
    """Start a container that submits a job running the given program."""
    running: list[Container] = []

    def make(program: str) -> Container:
        job = Job(
            job_id=NAME, argv=(sys.executable, "-c", program), spec={"token": 1}, timeout_seconds=60, grace_seconds=2
        )
        running.append(Container(jobs, job))
        return running[-1]

    yield make
    for one in running:
        one.end()


def until(state: JobState, jobs: LocalJobs) -> None:
    deadline = time.monotonic() + 30
    while jobs.poll(NAME).state is not state:
        assert time.monotonic() < deadline, jobs.poll(NAME)
        time.sleep(0.05)


SLEEP = "import time; time.sleep(600)"


def test_a_job_in_another_container_is_seen_and_adopted_and_dies_with_it(
    jobs: LocalJobs, start: Callable[[str], Container]
) -> None:
    one = start(SLEEP)
    assert (one.submitted["adopted"], one.submitted["attempt"]) == (False, 1)
    assert jobs.poll(NAME).state is JobState.RUNNING
    assert start(SLEEP).submitted == one.submitted | {"adopted": True}
    one.end()
    until(JobState.DEAD, jobs)
    third = start(SLEEP)
    assert (third.submitted["adopted"], third.submitted["attempt"]) == (False, 2)


def test_a_job_in_another_container_ends_when_it_is_killed_from_here(
    jobs: LocalJobs, start: Callable[[str], Container]
) -> None:
    start(SLEEP)
    assert jobs.kill(NAME).state is JobState.FAILED
    assert jobs.poll(NAME).reason == "killed on request"
    again = start("import json; json.dump({}, open('result.json', 'w'))")
    assert again.submitted["attempt"] == 2
    until(JobState.DONE, jobs)
