"""Hosts for the tests: real sshd processes, installed where that is possible."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ringrift_ops.home import Home
from ringrift_ops.hosts.local import LocalJobs
from tests.hosts import edge
from tests.hosts.sshd import Sshd, Sshds


@pytest.fixture(scope="session")
def sshds(debian_package: Callable[[str, str], str]) -> Iterator[Sshds]:
    """Makes sshds for a test; all end with the session."""
    debian_package("ssh-keygen", "openssh-client")
    made = Sshds(debian_package("sshd", "openssh-server"))
    yield made
    made.end()


@pytest.fixture(scope="session")
def shared_sshd(sshds: Sshds) -> Sshd:
    return sshds.make()


@pytest.fixture
def sshd(shared_sshd: Sshd) -> Iterator[Sshd]:
    """A host that runs, with an empty work folder; what still runs on it at the end of the test is ended."""
    if shared_sshd.process is None:
        shared_sshd.start()
    shutil.rmtree(shared_sshd.work)
    shared_sshd.work.mkdir()
    yield shared_sshd
    LocalJobs(shared_sshd.work / "jobs").kill_all()
    shared_sshd.cut()  # a test's links stay open otherwise, each with a program of 40 MB at its end


@pytest.fixture
def edge_home(home: Path) -> Home:
    """A leader's home with one host of role edge, ``box``, and generations of 20 games."""
    from tests.hosts.test_stages_on_hosts import SMALL

    found = Home(home)
    edge.inventory(found)
    found.settings_file.write_text(SMALL)
    return found


@pytest.fixture
def edge_url(edge_home: Home) -> Iterator[str]:
    """The address of that leader's exchange."""
    with edge.leader(edge_home) as address:
        yield address
