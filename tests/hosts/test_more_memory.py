"""R39: a training that is really out of memory on its host goes on on one with more."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ringrift_ops.airflow.work import Work
from ringrift_ops.cli import main
from ringrift_ops.errors import ExitCode, RingRiftError
from ringrift_ops.home import Home
from ringrift_ops.hosts.local import LocalJobs
from ringrift_ops.ledger import EventType
from ringrift_ops.settings import REMEDIES
from ringrift_ops.stages.specs import Stage
from tests.hosts.sshd import Sshd, Sshds, write_inventory

pytestmark = pytest.mark.runbooks_campaign

CONFIG = "hex8_2p"
WIDE = """\
profile: tiny
configs:
  hex8_2p: {convolutional: {blocks: 3, channels: 96}}
profiles:
  tiny:
    {first_games: 20, window_minimum_rows: 50, split_ratio: 0.7, epochs: 1, batch_size: 2048, remedies: [], device: cpu,
    family: convolutional}
"""
STANDING = """
import ringrift_ops.stages.train, torch
torch.nn.functional.conv2d(torch.zeros(8, 8, 32, 32), torch.zeros(8, 8, 3, 3)).sum()
print(int(open('/proc/self/statm').read().split()[0]) * 4096)
"""
ROOM = 300 << 20
"""What a training has on the little one besides what its libraries take: not enough for one step."""


@pytest.fixture
def hosts(sshds: Sshds) -> Iterator[dict[str, Sshd]]:
    """``little`` has really no more memory to give to a process than it stands on; ``roomy`` has this machine's."""
    told = subprocess.run([sys.executable, "-c", STANDING], capture_output=True, text=True, check=True)
    limit = int(told.stdout.split()[-1]) + ROOM
    found = {"little": sshds.make(wrap=("prlimit", f"--as={limit}")), "roomy": sshds.make()}
    yield found
    for sshd in found.values():
        LocalJobs(sshd.work / "jobs").kill_all()
        sshd.stop()


def test_R39_a_training_out_of_memory_really_moves_to_a_host_with_more(
    home: Path, hosts: dict[str, Sshd], capsys: pytest.CaptureFixture[str]
) -> None:
    place = Home(home).ensure()
    place.settings_file.write_text(WIDE)
    rows = {
        name: sshd.host(name, role="training", max_parallel_jobs=1, memory_gb={"little": 2, "roomy": 16}[name])
        for name, sshd in hosts.items()
    }
    write_inventory(place, rows)
    work = Work.of_run(CONFIG, None, "run1", datetime.now(UTC), "tiny")
    lease = work.grant()
    assert lease is not None
    for stage in (Stage.SELFPLAY, Stage.PARITY, Stage.EXPORT):
        for shard in work.plan.shards if stage is Stage.SELFPLAY else [0]:
            work.submit(stage, lease.token, shard)
            work.follow(stage, lease.token, lambda _: None, shard)
            work.complete(stage, lease.token, shard)
    work.submit(Stage.TRAIN, lease.token)
    assert work.host(Stage.TRAIN) == "little"
    work.follow(Stage.TRAIN, lease.token, print)
    with pytest.raises(RingRiftError, match="memory"):
        work.complete(Stage.TRAIN, lease.token)
    capsys.readouterr()
    assert main(["diagnose", CONFIG, "--stage", "train"]) == ExitCode.DONE
    shown = capsys.readouterr().out
    assert "train of hex8_2p: job hex8_2p-g1-train on little, failed" in shown
    assert "  memory (" in shown

    work.submit(Stage.TRAIN, lease.token)
    assert work.host(Stage.TRAIN) == "roomy"
    work.follow(Stage.TRAIN, lease.token, lambda _: None)
    assert work.complete(Stage.TRAIN, lease.token)["weights"]
    [applied] = work.ledger.events(types=[EventType.REMEDY_APPLIED])
    assert (applied.payload["kind"], applied.payload["bound"]) == ("memory", REMEDIES.memory)
    assert "goes on from its checkpoint on one of roomy" in applied.payload["action"]
    [verified] = work.ledger.events(types=[EventType.REMEDY_VERIFIED])
    assert verified.payload["ok"]
    assert [row.actor for row in work.ledger.audit() if row.action == "remedy memory"] == ["remedy"]
