"""Promoted nets on hosts of role edge: real HTTP and jobs; a thread stands between them in place of Airflow's queue."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from ringrift_ops.cli import main
from ringrift_ops.errors import RingRiftError
from ringrift_ops.home import Home
from ringrift_ops.hosts.edge import EdgeJobs, Mirror
from ringrift_ops.hosts.exchange import Exchange
from ringrift_ops.hosts.facts import canonical_nets, facts
from ringrift_ops.hosts.folder import read_json, write_json
from ringrift_ops.hosts.local import LocalJobs
from ringrift_ops.ledger import Ledger
from ringrift_ops.settings import EDGE
from ringrift_ops.stages import edge_nets
from ringrift_ops.stages.availability import check_model_availability, wait_for_model_distribution
from ringrift_ops.stages.edge import Carrier
from ringrift_ops.store import sha256_file
from tests.hosts import edge
from tests.hosts.sshd import until
from tests.hosts.test_distribution import CONFIG, LINK, distributed, promoted, states

PATIENCE = 120.0


@dataclass
class Node:
    """A host of role edge: its signs of life, and what carries its jobs."""

    url: str
    home: Home
    called: queue.Queue[tuple[str, int] | None]
    said: list[str]
    gone: threading.Event

    @property
    def exchange(self) -> Exchange:
        return Exchange(self.url, "box", edge.SECRET)

    def beat(self) -> None:
        told = facts(self.home) | {"nets": canonical_nets(self.home)}
        self.exchange.ask("POST", "/nodes/box/beat", {"facts": told})

    def live(self) -> None:
        while not self.gone.wait(0.3):
            with suppress(RingRiftError):
                self.beat()

    def work(self) -> None:
        while (job := self.called.get()) is not None:
            with suppress(RingRiftError):
                Carrier(self.exchange, self.home, *job, self.said.append).carry()

    def start(self) -> list[threading.Thread]:
        self.gone.clear()
        threads = [threading.Thread(target=one, daemon=True) for one in (self.live, self.work)]
        for one in threads:
            one.start()
        return threads

    def stop(self, threads: list[threading.Thread]) -> None:
        self.gone.set()
        self.called.put(None)
        for one in threads:
            one.join(PATIENCE)

    @property
    def has(self) -> str | None:
        link = self.home.resolve(LINK)
        return sha256_file(link) if link.is_file() else None


@pytest.fixture
def place(home: Path) -> Home:
    found = Home(home)
    edge.inventory(found)
    return found


@pytest.fixture
def node(place: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    quick = EDGE.model_copy(update={"silent_seconds": 1.0, "net_again_seconds": 1.0})
    monkeypatch.setattr(edge_nets, "EDGE", quick)
    called: queue.Queue[tuple[str, int] | None] = queue.Queue()
    known: set[str] = set()

    def call(jobs: EdgeJobs, job_id: str) -> None:
        if jobs.run_id(job_id) not in known:
            known.add(jobs.run_id(job_id))
            called.put((job_id, jobs.number(job_id)))

    def attend(mirror: Mirror) -> None:
        edge_nets.attend(place, Ledger.open(), EdgeJobs(mirror), call)

    with edge.leader(place, attend=attend) as url:
        made = Node(url, Home(tmp_path / "node").ensure(), called, [], threading.Event())
        yield made
        LocalJobs(made.home.jobs).kill_all()


def long_ago(place: Home) -> None:
    """Let the host have been heard of ten minutes ago."""
    mirror = Mirror(place, "box")
    known = read_json(mirror.root / "node.json")
    assert known is not None
    write_json(mirror.root / "node.json", known | {"at": known["at"] - 600.0})


def test_R57_a_net_is_on_an_edge_host_by_its_hash_and_under_its_name_and_is_brought_again_when_it_is_spoilt(
    place: Home, node: Node
) -> None:
    sha = promoted(place)
    assert check_model_availability(CONFIG) == {"box": False}
    threads = node.start()
    try:
        until(lambda: Mirror(place, "box").node(), "the host is heard of", seconds=PATIENCE)
        (delivery,) = distributed(place, sha).deliveries
        assert (delivery.destination, delivery.state, delivery.verified) == ("host:box", "verified", True)
        assert node.has == sha
        assert node.home.resolve(LINK).is_symlink()
        assert wait_for_model_distribution(CONFIG, timeout=PATIENCE) == {"box": True}
        assert states(sha) == {"box": "verified"}
        assert not (node.home.root / "ledger.db").exists()

        target = node.home.resolve(LINK).resolve()
        target.chmod(0o644)
        target.write_bytes(b"spoilt")
        until(lambda: node.has == sha, "it is brought again", seconds=PATIENCE)
        assert wait_for_model_distribution(CONFIG, timeout=PATIENCE) == {"box": True}

        newer = promoted(place, hidden=32)
        until(lambda: states(newer).get("box") == "verified", "nobody distributed it, and it came", seconds=PATIENCE)
        assert node.has == newer
        assert states(sha) == {"box": "stale"}
        assert LocalJobs(node.home.jobs).all() == [edge_nets.net_job(CONFIG)]
    finally:
        node.stop(threads)


def test_R58_an_edge_host_that_is_away_holds_up_nobody_and_gets_only_the_newest_when_it_is_back(
    place: Home, node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    node.beat()
    long_ago(place)
    first = promoted(place)
    (delivery,) = distributed(place, first).deliveries
    assert (delivery.state, delivery.lost) == ("pending", False)
    assert "its Edge worker was heard of" in str(delivery.error)
    second = promoted(place, hidden=32)
    assert states(distributed(place, second).weights) == {"box": "pending"}
    assert main(["model", "availability", CONFIG]) == 4
    assert "pending" in capsys.readouterr().out
    threads = node.start()
    try:
        until(lambda: states(second) == {"box": "verified"}, "it has caught up", seconds=PATIENCE)
    finally:
        node.stop(threads)
    assert node.has == second
    assert states(first) == {"box": "pending"}
    assert not any(first[:16] in line for line in node.said)
    assert {sha256_file(path) for path in node.home.root.rglob("*.safetensors")} == {second}
    assert main(["model", "availability", CONFIG]) == 0


@pytest.mark.hosts_campaign
def test_a_net_that_an_edge_host_cannot_take_is_told_with_the_reason_and_force_sends_it_again(
    place: Home, node: Node
) -> None:
    sha = promoted(place)
    node.home.models.rmdir()
    node.home.models.write_bytes(b"no folder")
    threads = node.start()
    try:
        until(lambda: states(sha).get("box") == "failed", "it is told", seconds=PATIENCE)
        (row,) = Ledger.open().deliveries(sha)
        assert row.error is not None
        assert str(node.home.models) in row.error
        node.home.models.unlink()
        until(lambda: states(sha) == {"box": "verified"}, "it is tried again by itself", seconds=PATIENCE)
        before = sum("fetched" in line for line in node.said)
        assert distributed(place, sha, force=True).deliveries[0].verified
        assert sum("fetched" in line for line in node.said) == before + 1
    finally:
        node.stop(threads)
