"""A generation as its users see it: three hosts, each with its own keys, one of them made ready from nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ringrift_ops.errors import ExitCode
from ringrift_ops.home import Home
from ringrift_ops.ledger import Ledger, Outcome
from ringrift_ops.stages.specs import GauntletResult, ParityResult, Verdict
from ringrift_ops.store import sha256_file
from tests.hosts.sshd import Sshd, Sshds, write_inventory

pytestmark = [pytest.mark.hosts_campaign, pytest.mark.platform(1), pytest.mark.timeout(2_400)]

CONFIG = "hex8_2p"
SETTINGS = {"profiles": {"quick": {"shards": 6}}}
"""Enough parts that each of the three hosts has some; everything else is as `make run` has it."""


@pytest.fixture
def three(sshds: Sshds) -> Iterator[list[Sshd]]:
    """Three sshds that share nothing: ports, host keys, keys of clients and work folders are each their own."""
    path = f"{Path(sys.base_prefix) / 'bin'}:/usr/bin:/bin"
    kept = " ".join(f"{name}={value}" for name, value in os.environ.items() if name.startswith("PIP_"))
    groups = [Sshds(sshds.program) for _ in range(3)]
    yield [
        groups[0].make(options=[f"SetEnv PATH={path} {kept}".strip()]),
        *(group.make() for group in groups[1:]),
    ]
    for group in groups:
        group.end()


def ringrift(place: Home, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ringrift_ops.cli", *words]
    environment = os.environ | {"RINGRIFT_HOME": str(place.root)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_net_is_played_for_trained_judged_promoted_and_delivered_on_three_hosts_one_made_ready_from_nothing(
    three: list[Sshd], tmp_path: Path
) -> None:
    place = Home(tmp_path / "platform").ensure()
    place.settings_file.write_text(yaml.safe_dump(SETTINGS))
    bare, player, trainer = three
    write_inventory(place, {
        "bare": bare.host("bare", role="selfplay", max_parallel_jobs=1).model_copy(update={"python": None}),
        "player": player.host("player", role="selfplay", max_parallel_jobs=1),
        "trainer": trainer.host("trainer", role="mixed", capabilities=["gpu"], max_parallel_jobs=1),
    })  # fmt: skip
    ready = ringrift(place, "cluster", "bootstrap", "--json")
    assert ready.returncode == ExitCode.DONE, ready.stdout + ready.stderr
    installed = {row["host"]: row["facts"]["installed"] for row in json.loads(ready.stdout)["hosts"]}
    assert installed == {"bare": True, "player": False, "trainer": False}

    environment = os.environ | {"RINGRIFT_HOME": str(place.root), "CONFIG": CONFIG, "PROFILE": "quick", "STAY": "0"}
    made = subprocess.run(
        [sys.executable, "-m", "ringrift_ops.platform", "run"], env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert made.returncode == ExitCode.DONE, made.stdout[-4000:]

    ledger = Ledger.open(place.ledger_url)
    (generation,) = ledger.generations(CONFIG)
    assert generation.outcome is Outcome.PASS, made.stdout[-4000:]
    placed: dict[str, set[str | None]] = {}
    for run in ledger.stage_runs(generation.id):
        placed.setdefault(run.stage, set()).add(run.host)
    assert placed["selfplay"] == {"bare", "player", "trainer"}
    assert placed["train"] == {"trainer"}
    assert placed["gauntlet"] <= {"bare", "player", "trainer"}
    assert (placed["parity"], placed["export"]) == ({None}, {None})
    parity = ParityResult.model_validate(ledger.stage_result(generation.id, "parity"))
    assert (parity.failed, parity.checked) == (0, sum(
        int((run.result or {})["games"]) for run in ledger.stage_runs(generation.id, "selfplay")
    ))  # fmt: skip
    judged = GauntletResult.model_validate(ledger.stage_result(generation.id, "gauntlet"))
    assert judged.verdict is Verdict.PASS

    champion = ledger.canonical(CONFIG)
    assert champion is not None
    assert champion.sha == judged.candidate
    delivered = {row.destination: row.state for row in ledger.deliveries(champion.sha)}
    assert {f"host:{name}": "verified" for name in ("bare", "player", "trainer")}.items() <= delivered.items()
    for sshd in three:
        assert sha256_file(sshd.work / f"models/canonical_{CONFIG}.safetensors") == champion.sha
    available = ringrift(place, "model", "availability", CONFIG, "--json")
    assert available.returncode == ExitCode.DONE, available.stdout
    assert {row["node"]: row["available"] for row in json.loads(available.stdout)["nodes"]} == dict.fromkeys(
        ("bare", "player", "trainer"), True
    )
