"""What goes wrong between this machine and a host, made with real sshds: recognised, and gone after its fix.

By hand but for the cheapest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ringrift_ops.airflow.verifying import LostJobError
from ringrift_ops.airflow.work import Work
from ringrift_ops.cli import main
from ringrift_ops.errors import ExitCode
from ringrift_ops.home import Home
from ringrift_ops.hosts import link as link_module
from ringrift_ops.hosts.errors import AuthenticationError, HostRefusedError, UntrustedHostError
from ringrift_ops.hosts.jobs import JobState
from ringrift_ops.hosts.local import LocalJobs
from ringrift_ops.ledger import EventType, Outcome
from ringrift_ops.settings import HOSTS
from ringrift_ops.stages import fleet
from ringrift_ops.stages import hosting as hosting_module
from ringrift_ops.stages.placement import NoFittingHostError
from ringrift_ops.stages.specs import Stage
from tests.hosts.sshd import Sshd, Sshds, until, write_inventory

CONFIG = "hex8_2p"
SMALL = """\
profile: tiny
profiles:
  tiny: {first_games: 10, device: cuda}
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = HOSTS.model_copy(update={"again_seconds": 0.05, "connect_pause_seconds": 0.05, "lost_seconds": 1.0})
    for module in (link_module, hosting_module, fleet):
        monkeypatch.setattr(module, "HOSTS", quick)


@pytest.fixture
def sshd(sshds: Sshds) -> Iterator[Sshd]:
    """A host of this test's own: what is broken on it stays broken."""
    made = sshds.make()
    yield made
    LocalJobs(made.work / "jobs").kill_all()
    made.stop()


@pytest.fixture
def work(home: Path, sshd: Sshd) -> Iterator[Work]:
    """A generation whose self-play goes to the host ``player``."""
    place = Home(home).ensure()
    place.settings_file.write_text(SMALL)
    write_inventory(place, {"player": sshd.host("player", role="selfplay")})
    yield another()
    LocalJobs(place.jobs).kill_all()


def another() -> Work:
    """The same generation, in the eyes of a new process."""
    return Work.of_run(CONFIG, None, "run1", datetime.now(UTC), "tiny")


def granted(work: Work) -> int:
    lease = work.grant()
    assert lease is not None
    return lease.token


def diagnosed(capsys: pytest.CaptureFixture[str], stage: str = "selfplay") -> dict[str, dict[str, Any]]:
    """The causes of a stage's jobs by name, as the command prints them."""
    capsys.readouterr()
    assert main(["diagnose", CONFIG, "--stage", stage, "--json"]) == ExitCode.DONE
    found = json.loads(capsys.readouterr().out)
    return {
        cause["cause"]: cause
        for one in found
        if one["state"] in ("failed", "dead", "not started")
        for cause in one["causes"]
    }


def said(capsys: pytest.CaptureFixture[str], fix: str, code: ExitCode = ExitCode.DONE) -> str:
    """What a fix says when it is run as it was printed."""
    capsys.readouterr()
    assert main(fix.split()[1:]) == code
    return "".join(capsys.readouterr())


def plays(work: Work, token: int) -> None:
    work.submit(Stage.SELFPLAY, token)
    work.follow(Stage.SELFPLAY, token, lambda _: None)
    assert work.complete(Stage.SELFPLAY, token)["games"] == 5


def failures(work: Work) -> list[str]:
    return [str(event.payload["error"]) for event in work.ledger.events(types=[EventType.SELFPLAY_FAILED])]


@pytest.mark.runbooks_campaign
def test_R11_a_host_that_refuses_the_key(work: Work, sshd: Sshd, capsys: pytest.CaptureFixture[str]) -> None:
    keys = sshd.folder / "authorized_keys"
    known = keys.read_text()
    keys.write_text("")
    token = granted(work)
    with pytest.raises(AuthenticationError):
        work.submit(Stage.SELFPLAY, token)
    found = diagnosed(capsys)
    assert list(found) == ["not_let_in"]
    assert "put the public key into its authorized_keys" in found["not_let_in"]["evidence"][0]
    assert found["not_let_in"]["fix"] == "ringrift cluster health player"
    assert "does not let" in said(capsys, found["not_let_in"]["fix"], ExitCode.INFRASTRUCTURE)
    assert len(failures(work)) == 1
    keys.write_text(known)
    said(capsys, found["not_let_in"]["fix"])
    plays(another(), token)
    assert diagnosed(capsys) == {}


@pytest.mark.runbooks_campaign
def test_R11_a_host_whose_key_is_not_the_trusted_one(
    work: Work, sshd: Sshd, capsys: pytest.CaptureFixture[str]
) -> None:
    write_inventory(work.home, {"player": sshd.host("player", role="selfplay", host_key=None)})
    work, token = another(), granted(work)
    with pytest.raises(UntrustedHostError):
        work.submit(Stage.SELFPLAY, token)
    found = diagnosed(capsys)
    assert list(found) == ["untrusted_host"]
    assert found["untrusted_host"]["fix"] == "ringrift cluster trust player"
    said(capsys, found["untrusted_host"]["fix"] + " --yes")
    plays(another(), token)
    assert diagnosed(capsys) == {}


def test_R11_nobody_listens_there(work: Work, sshd: Sshd, capsys: pytest.CaptureFixture[str]) -> None:
    sshd.stop()
    token = granted(work)
    with pytest.raises(HostRefusedError):
        work.submit(Stage.SELFPLAY, token)
    found = diagnosed(capsys)
    assert found["refused"]["fix"] == "ringrift cluster health player"
    assert "nobody listens" in said(capsys, found["refused"]["fix"], ExitCode.INFRASTRUCTURE)
    finished = work.finish([Stage.SELFPLAY])
    assert (finished.outcome, "nobody listens" in str(finished.reason)) == (Outcome.ERROR, True)


@pytest.mark.runbooks_campaign
def test_R71_no_host_can_do_it(work: Work, sshd: Sshd, capsys: pytest.CaptureFixture[str]) -> None:
    write_inventory(work.home, {"player": sshd.host("player")})
    work, token = another(), granted(work)
    for stage in (Stage.SELFPLAY, Stage.PARITY, Stage.EXPORT):
        work.submit(stage, token)
        work.follow(stage, token, lambda _: None)
        work.complete(stage, token)
    with pytest.raises(NoFittingHostError):
        work.submit(Stage.TRAIN, token)
    found = diagnosed(capsys, "train")
    assert list(found) == ["no_fitting_host"]
    assert "needs gpu, and no host of role training or mixed has it (player)" in found["no_fitting_host"]["evidence"][0]
    assert "player" in said(capsys, found["no_fitting_host"]["fix"])
    write_inventory(work.home, {"player": sshd.host("player", capabilities=["gpu"])})
    another().submit(Stage.TRAIN, token)
    assert another().host(Stage.TRAIN) == "player"


@pytest.mark.runbooks_campaign
def test_R11_a_host_that_is_gone_with_a_job_on_it(work: Work, sshd: Sshd, capsys: pytest.CaptureFixture[str]) -> None:
    work.home.settings_file.write_text(SMALL.replace("first_games: 10", "first_games: 100000"))
    work = another()
    token = granted(work)
    work.submit(Stage.SELFPLAY, token)
    until(lambda: (work.look(Stage.SELFPLAY).heartbeat or {}).get("done"), "games are played on the host")
    sshd.stop()
    until(lambda: work.look(Stage.SELFPLAY).state is JobState.DEAD, "the host counts as lost")
    with pytest.raises(LostJobError):
        work.complete(Stage.SELFPLAY, token)
    found = diagnosed(capsys)
    assert found["host_lost"]["confidence"] >= 0.8
    assert found["refused"]["fix"] == found["host_lost"]["fix"] == "ringrift cluster health player"
    sshd.start()
    said(capsys, found["host_lost"]["fix"])
    assert another().look(Stage.SELFPLAY).state is JobState.RUNNING
