"""A promoted net on every host: verified there, for every k of n hosts that are away, newest only, by themselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ringrift_ops.cli import main
from ringrift_ops.errors import ExitCode
from ringrift_ops.home import Home
from ringrift_ops.hosts import link as link_module
from ringrift_ops.ledger import Ledger, generation_lease
from ringrift_ops.network.weights import fresh_network, weights_bytes
from ringrift_ops.settings import HOSTS
from ringrift_ops.stages import distribute, fleet, hosting
from ringrift_ops.stages.availability import (
    DistributionTimeoutError,
    check_model_availability,
    wait_for_model_distribution,
)
from ringrift_ops.stages.heartbeat import silent
from ringrift_ops.stages.plan import host_destinations
from ringrift_ops.stages.specs import DistributeResult, DistributeSpec
from ringrift_ops.store import Store, sha256_file
from tests.hosts.sshd import Sshd, Sshds, write_inventory

CONFIG = "hex8_2p"
LINK = f"models/canonical_{CONFIG}.safetensors"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = HOSTS.model_copy(update={"connect_seconds": 2.0, "again_seconds": 0.0, "connect_pause_seconds": 0.05})
    for module in (link_module, hosting, fleet):
        monkeypatch.setattr(module, "HOSTS", quick)


@pytest.fixture(scope="module")
def three(sshds: Sshds) -> list[Sshd]:
    return [sshds.make() for _ in range(3)]


@pytest.fixture
def hosts(three: list[Sshd]) -> list[Sshd]:
    for sshd in three:
        if sshd.process is None:
            sshd.start()
        subprocess.run(["rm", "-rf", str(sshd.work)], check=True)
        sshd.work.mkdir()
    return three


@pytest.fixture
def place(home: Path, hosts: list[Sshd]) -> Home:
    made = Home(home).ensure()
    write_inventory(made, {f"h{number}": sshd.host(f"h{number}") for number, sshd in enumerate(hosts)})
    return made


def promoted(place: Home, hidden: int = 16, config: str = CONFIG) -> str:
    """Make some net (0.3 MB, and 10 kB for each more ``hidden``) the canonical one, as an operator may; return its sha.

    It has to be a net: hosts read it.
    """
    sizes = {"hidden": hidden, "dense": 16}
    content = weights_bytes(fresh_network(config, "sparse", sizes, int.from_bytes(os.urandom(4))))
    sha, path = Store(place).put(content, ".safetensors")
    ledger = Ledger.open()
    ledger.record_artifact(
        sha, "weights", place.relative(path), len(content), config, None, parents=[], meta={}, token=0
    )
    lease = ledger.acquire_lease(generation_lease(config), "test")
    before = ledger.canonical(config)
    ledger.compare_and_swap_canonical(
        config, None if before is None else before.sha, sha, lease.token, generation=None, reason="a test",
        actor="test", kind="forced",
    )  # fmt: skip
    ledger.release_lease(lease.name, lease.token)
    return sha


def distributed(place: Home, sha: str, *, force: bool = False) -> DistributeResult:
    spec = DistributeSpec(
        config=CONFIG, generation=None, token=0, seed=0, weights=sha, destinations=host_destinations(place), force=force
    )
    return distribute.run(spec, silent)


def states(sha: str) -> dict[str, str]:
    return {row.destination.removeprefix("host:"): row.state for row in Ledger.open().deliveries(sha)}


def test_R57_a_net_is_on_every_host_by_its_hash_and_under_its_name(
    place: Home, hosts: list[Sshd], capsys: pytest.CaptureFixture[str]
) -> None:
    sha = promoted(place)
    assert check_model_availability(CONFIG) == {"h0": False, "h1": False, "h2": False}
    assert all(one.verified for one in distributed(place, sha).deliveries)
    for sshd in hosts:
        assert sha256_file(sshd.work / LINK) == sha
        assert (sshd.work / LINK).is_symlink()
    assert states(sha) == dict.fromkeys(("h0", "h1", "h2"), "verified")
    assert wait_for_model_distribution(f"canonical_{CONFIG}", timeout=0.0) == {"h0": True, "h1": True, "h2": True}
    (hosts[1].work / LINK).resolve().chmod(0o644)
    (hosts[1].work / LINK).resolve().write_bytes(b"flipped")
    assert main(["model", "availability", CONFIG, "--json"]) == ExitCode.INFRASTRUCTURE
    rows = json.loads(capsys.readouterr().out)["nodes"]
    assert [(row["node"], row["available"]) for row in rows] == [("h0", True), ("h1", False), ("h2", True)]


@pytest.mark.parametrize("away", [1, *(pytest.param(k, marks=pytest.mark.hosts_campaign) for k in (2, 3))])
def test_R58_hosts_that_are_away_hold_up_no_other_and_catch_up_when_they_are_back(
    place: Home, hosts: list[Sshd], away: int
) -> None:
    sha = promoted(place)
    for sshd in hosts[:away]:
        sshd.stop()
    deliveries = distributed(place, sha).deliveries
    assert [one.verified for one in deliveries] == [number >= away for number in range(3)]
    assert [one.state for one in deliveries] == ["pending"] * away + ["verified"] * (3 - away)
    with pytest.raises(DistributionTimeoutError, match="h0: host h0: nobody listens"):
        wait_for_model_distribution(CONFIG, timeout=0.0)
    newer = promoted(place)
    for sshd in hosts[:away]:
        sshd.start()
    assert main(["cluster", "sync"]) == ExitCode.DONE
    for sshd in hosts:
        assert sha256_file(sshd.work / LINK) == newer
    assert states(newer) == dict.fromkeys(("h0", "h1", "h2"), "verified")
    assert "verified" not in states(sha).values()


def test_a_promotion_during_a_distribution_wins_on_every_host(place: Home, hosts: list[Sshd]) -> None:
    older, newer = promoted(place), promoted(place)
    result = distributed(place, older)
    assert {one.state for one in result.deliveries} == {"stale"}
    for sshd in hosts:
        assert sha256_file(sshd.work / LINK) == newer
    assert states(newer) == dict.fromkeys(("h0", "h1", "h2"), "verified")


@pytest.mark.hosts_campaign
def test_a_damaged_copy_on_a_host_is_replaced_and_force_sends_again(place: Home, hosts: list[Sshd]) -> None:
    sha = promoted(place)
    distributed(place, sha)
    there = (hosts[0].work / LINK).resolve()
    there.chmod(0o644)
    there.write_bytes(b"flipped")
    assert all(one.verified for one in distributed(place, sha).deliveries)
    assert sha256_file(hosts[0].work / LINK) == sha
    (path,) = [one for one in (hosts[2].work / "store").rglob("*") if one.is_file()]
    path.chmod(0o644)
    path.write_bytes(b"no net at all")
    assert all(one.verified for one in distributed(place, sha).deliveries)
    before = (hosts[1].work / LINK).resolve().stat().st_ino
    distributed(place, sha, force=True)
    assert (hosts[1].work / LINK).resolve().stat().st_ino != before


def test_a_full_host_is_told_and_the_others_have_the_net(place: Home, hosts: list[Sshd]) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    sha = promoted(place, hidden=256)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(hosts[0].work)], check=True)
    try:
        deliveries = distributed(place, sha).deliveries
    finally:
        hosts[0].stop()
        subprocess.run(["umount", "-l", str(hosts[0].work)], check=True)
    assert [one.state for one in deliveries] == ["failed", "verified", "verified"]
    assert "free some space" in str(deliveries[0].error)
    assert datetime.now(UTC) > Ledger.open().deliveries(sha)[0].recorded_at


@pytest.mark.hosts_campaign
def test_a_net_that_a_host_itself_cannot_read_counts_as_failed_there_and_its_ledger_stays_here(
    place: Home, hosts: list[Sshd], tmp_path: Path
) -> None:
    sha = promoted(place)
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\ncase "$*" in *model\\ show*) echo "cannot import numba" >&2; exit 4;; esac\n'
        f"exec {sys.executable} -c \"import sys; sys.executable = '$0'; sys.argv = ['serve', '$3']; "
        'from ringrift_ops.hosts.serve import main; sys.exit(main())"\n'
    )
    python.chmod(0o755)
    rows = {f"h{number}": sshd.host(f"h{number}") for number, sshd in enumerate(hosts)}
    write_inventory(place, rows | {"h1": hosts[1].host("h1", python=str(python))})
    deliveries = distributed(place, sha).deliveries
    assert [one.state for one in deliveries] == ["verified", "failed", "verified"]
    assert "cannot import numba" in str(deliveries[1].error)
    assert not (hosts[0].work / "ledger.db").exists()
