"""Nets whose files really lie in a platform's store, with the games and the dataset that they came of."""

from __future__ import annotations

from datetime import UTC, datetime

from ringrift_ops.ledger import Generation, Lease
from ringrift_ops.stages.specs import Verdict
from ringrift_ops.store import Store
from tests.airflow.conftest import Platform
from tests.ledger.conftest import Workbench


def workbench(platform: Platform) -> Workbench:
    """Steps on the platform's ledger, at the present moment."""
    found = Workbench(platform.ledger)
    found.now = datetime.now(UTC)
    return found


def in_force(
    platform: Platform, generation: Generation, lease: Lease, name: str, expected: str | None
) -> tuple[str, str]:
    """Make a net the canonical one after ``expected``; return (its sha256, that of its games)."""
    ledger, store, parents, shas = platform.ledger, Store(platform.home), list[tuple[str, str]](), dict[str, str]()
    for kind, suffix in (("games", ".db"), ("dataset", ".npz"), ("weights", ".safetensors")):
        sha, path = store.put(f"{kind} of {name}".encode(), suffix)
        meta = {"games": {"games": 1, "moves": 1}, "dataset": {"samples": 1}}.get(kind, {})
        ledger.record_artifact(
            sha, kind, platform.home.relative(path), size=path.stat().st_size, config=generation.config,
            generation=generation.id, token=lease.token, parents=parents, meta=meta,
        )  # fmt: skip
        parents, shas[kind] = [(sha, kind)], sha
    net = shas["weights"]
    evaluation = ledger.record_evaluation(
        f"{net[:-1]}{'0' if net[-1] != '0' else '1'}", config=generation.config, generation=generation.id,
        candidate=net, previous=expected, gate_version="1", verdict=Verdict.PASS, reason="all gates",
        opponents=[{"opponent": "random", "games": 100, "wins": 97}], pairs=[], token=lease.token,
    )  # fmt: skip
    ledger.compare_and_swap_canonical(
        generation.config, expected, net, lease.token, generation=generation.id, reason="won", actor="test",
        evaluation=evaluation.id,
    )  # fmt: skip
    return net, shas["games"]
