"""The platform itself: what is said, what is refused, what is taken up, and that nothing of it is ever left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ringrift_ops.errors import ExitCode
from ringrift_ops.platform import processes
from tests.airflow.conftest import Platform, output_of, processes_in, start, state_of, until

pytestmark = pytest.mark.platform(2)


def said(home: Path) -> str:
    return output_of(home).read_text()


def ended(process: subprocess.Popen[str], seconds: float = 60) -> int:
    return process.wait(seconds)


@pytest.mark.slow
@pytest.mark.parametrize("killed", ["front", "keeper", "front and keeper", "closed terminal", "ctrl-c"])
def test_whatever_ends_the_platform_no_process_is_left(tmp_path: Path, killed: str) -> None:
    home = tmp_path / "home"
    front = start(home, AIRFLOW__CORE__EXECUTOR="Foreign")
    state = until("all components run", 60, lambda: len(state_of(home).get("components", {})) == 5 and state_of(home))
    assert len(processes_in(home)) >= 5
    keeper = state["keeper"]["pid"]
    match killed:
        case "front":
            front.kill()
        case "keeper":
            os.kill(keeper, signal.SIGKILL)
        case "front and keeper":
            os.kill(keeper, signal.SIGSTOP)  # so that it cannot act between the two
            front.kill()
            os.kill(keeper, signal.SIGKILL)
        case "closed terminal":
            front.send_signal(signal.SIGHUP)
        case "ctrl-c":
            os.killpg(front.pid, signal.SIGINT)
    ended(front)
    until("all processes are gone", 40, lambda: not processes_in(home) and processes.Identity.of(keeper) is None)
    assert "leaving aside AIRFLOW__CORE__EXECUTOR" in said(home)


@pytest.mark.slow
def test_an_interrupted_run_is_taken_up_by_the_next_and_its_jobs_resume(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "standin.json").write_text('{"hex8_2p": {"seconds": {"selfplay": 20}}}')
    front = start(home, "run", STAY="0")
    log = home / "standin.log"
    until("both shards run", 240, lambda: log.exists() and log.read_text().count('"selfplay"') == 2)
    beside = subprocess.Popen(
        [sys.executable, "-m", "ringrift_ops.platform", "run"],
        env=os.environ | {"RINGRIFT_HOME": str(home), "PROFILE": "tiny"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert beside.stdout is not None
    assert any("going on with the interrupted run" in line for line in beside.stdout)  # it watches the same run
    os.killpg(front.pid, signal.SIGINT)
    assert ended(front) == 128 + signal.SIGINT
    assert "whoever started the platform has ended it" in beside.communicate(timeout=60)[0]
    assert beside.returncode == ExitCode.INFRASTRUCTURE
    assert processes_in(home) == {}

    (home / "standin.json").write_text("{}")
    again = start(home, "run", STAY="0")
    assert ended(again, 300) == ExitCode.DONE, said(home)
    assert "going on with the interrupted run" in said(home)
    assert "hex8_2p, generation 1" in said(home)
    assert "promoted" in said(home)
    assert log.read_text().count('"selfplay"') == 4
    assert processes_in(home) == {}


@pytest.mark.slow
def test_a_second_platform_is_refused_and_a_run_uses_the_one_that_is_there(platform: Platform) -> None:
    home = platform.home.root
    second = subprocess.run(
        [sys.executable, "-m", "ringrift_ops.platform", "up"],
        env=os.environ | {"RINGRIFT_HOME": str(home), "PROFILE": "tiny"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert second.returncode == ExitCode.WRONG_USAGE
    assert "a platform already runs in" in second.stderr
    assert "make stop" in second.stderr

    platform.script("hex8_2p", verdict="FAIL")
    run = subprocess.run(
        [sys.executable, "-m", "ringrift_ops.platform", "run"],
        env=os.environ | {"RINGRIFT_HOME": str(home), "PROFILE": "tiny", "CONFIG": "hex8_2p", "STAY": "1"},
        capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert run.returncode == ExitCode.DONE, run.stderr
    assert "using the platform that already runs" in run.stdout
    assert "FAIL" in run.stdout
    assert platform.api.healthy()


@pytest.mark.slow
def test_the_whole_platform_takes_at_most_1600_megabytes(platform: Platform) -> None:
    front = platform.process.pid
    assert processes.memory_of([front, *processes.descendants(front)]) < 1.6e9


def run_and_fail(home: Path, verb: str = "run", **variables: str) -> tuple[int, str]:
    process = start(home, verb, **variables)
    code = ended(process)
    return code, said(home).strip()


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({"CONFIG": "hex8_5p"}, "unknown config 'hex8_5p'"),
        ({"PROFILE": "quik"}, "unknown profile 'quik'; did you mean quick?"),
        ({"STAY": "yes"}, "STAY='yes': give 1"),
        ({"RINGRIFT_PORT": "web"}, "RINGRIFT_PORT='web' is not a port"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(tmp_path: Path, variables: dict[str, str], line: str) -> None:
    code, text = run_and_fail(tmp_path / "home", **variables)
    assert (code, len(text.splitlines())) == (ExitCode.WRONG_USAGE, 1), text
    assert line in text


def test_a_busy_port_that_was_asked_for_is_refused_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, text = run_and_fail(tmp_path / "home", RINGRIFT_PORT=str(port))
    assert code == ExitCode.INFRASTRUCTURE
    assert text == (
        f"port {port} (RINGRIFT_PORT) is taken by another process: choose another one, "
        "or leave RINGRIFT_PORT away to take the next free port"
    )


def test_stopping_what_does_not_run_is_fine(tmp_path: Path) -> None:
    code, text = run_and_fail(tmp_path / "home", "stop")
    assert (code, text) == (ExitCode.DONE, f"nothing runs in {tmp_path / 'home'}")
