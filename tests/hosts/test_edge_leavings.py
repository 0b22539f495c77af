"""What an Edge host has sent does not pile up at its leader."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path

from ringrift_ops.airflow.work import Work
from ringrift_ops.home import Home
from ringrift_ops.hosts.edge import EdgeJobs, Mirror
from ringrift_ops.hosts.local import LocalJobs
from ringrift_ops.ledger import Ledger
from ringrift_ops.operations import retention
from ringrift_ops.operations.by import By
from ringrift_ops.operations.tending import tend
from ringrift_ops.settings import RETENTION
from ringrift_ops.stages.edge import Carrier
from ringrift_ops.stages.specs import Stage
from tests.hosts import edge
from tests.hosts.test_stages_on_hosts import CONFIG, granted

BY = By("a test", "looking", "python")
DAY = 86_400.0


def older(folder: Path, days: float) -> None:
    then = time.time() - days * DAY
    for path in [*folder.rglob("*"), folder]:
        os.utime(path, (then, then))


def test_what_an_edge_host_sent_goes_when_nobody_wants_it_and_its_jobs_when_they_are_old(
    edge_home: Home, edge_url: str, tmp_path: Path
) -> None:
    work = Work.of_run(CONFIG, None, "run1", datetime.now(UTC), "tiny")
    token = granted(work)
    exchange, node = edge.node(edge_url, tmp_path / "node")
    mirror, said = Mirror(edge_home, "box"), list[str]()
    for shard in (0, 1):
        job_id = work.submit(Stage.SELFPLAY, token, shard)
        Carrier(exchange, node, job_id, EdgeJobs(mirror).number(job_id), said.append).carry()
        if shard == 0:
            assert len(list(node.games.iterdir())) == 1
            older(node.jobs, RETENTION.job_days + 1)
    # The node has cleared away what the leader had taken in long before, and not what it has just brought.
    assert LocalJobs(node.jobs).all() == [work.job_id(Stage.SELFPLAY, 1)]
    assert [path.stem[-3:] for path in node.games.iterdir()] == ["_s1"]
    work.follow(Stage.SELFPLAY, token, said.append, 0)
    assert work.complete(Stage.SELFPLAY, token, 0)["games"] == 10
    (sent,) = mirror.sent(work.job_id(Stage.SELFPLAY, 1))
    assert [path.name for path in (mirror.root / "files").iterdir()] == [sent]  # the other was taken in with its result
    stray = mirror.file("ab" * 32).with_name(f".{'ab' * 32}.part")
    stray.write_bytes(b"broke off")
    older(mirror.root, RETENTION.sent_days + 1)
    ledger = Ledger.open()
    tend(edge_home, ledger, BY)
    assert [path.name for path in (mirror.root / "files").iterdir()] == [sent]  # its generation is under way

    work.finish([Stage.SELFPLAY])
    tend(edge_home, ledger, BY)
    assert list((mirror.root / "files").iterdir()) == []
    assert mirror.job_ids() == [work.job_id(Stage.SELFPLAY, shard) for shard in (0, 1)]
    older(mirror.root, RETENTION.job_days + 1)
    plan = retention.retention_plan(edge_home, ledger)
    assert {one.path.name for one in plan.removals if one.kind == "edge"} == set(mirror.job_ids())
    retention.apply(edge_home, ledger, BY, kinds=("edge",))
    assert mirror.job_ids() == []
    assert mirror.node() is not None  # the host itself is still known
    removed = [row for row in ledger.audit(limit=50) if row.action == "remove"]
    assert len(removed) == 4
