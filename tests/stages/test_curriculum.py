"""A promotion moves games and priority from the config that was promoted to the others (R59)."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ringrift_ops.cli import main
from ringrift_ops.home import Home
from ringrift_ops.ledger import Ledger
from ringrift_ops.settings import CURRICULUM, Settings
from ringrift_ops.stages.curriculum import priority, weights
from ringrift_ops.stages.plan import Plan
from ringrift_ops.stages.specs import Stage
from tests.ledger.conftest import Workbench


@pytest.fixture
def bench(home: Path) -> Workbench:
    Home(home).ensure()
    bench = Workbench(Ledger.open())
    bench.now = datetime.now(UTC)
    return bench


def promoted(bench: Workbench, config: str, name: str) -> None:
    """One generation of a config whose net is promoted."""
    generation, lease = bench.running(name, config)
    before = bench.ledger.canonical(config)
    bench.promote(name, generation, lease, None if before is None else before.sha)
    bench.ledger.release_lease(f"generation/{config}", lease.token, bench.now)
    bench.ledger.withdraw_generation(generation.id, "done", bench.now)


def plan(bench: Workbench, config: str, run: str) -> Plan:
    """The plan of the config's next generation, under its lease."""
    bench.now = datetime.now(UTC)
    generation, _ = bench.running(run, config)
    return Plan(bench.ledger, Settings.load(), bench.ledger.generation(generation.id))


def games(found: Plan) -> int:
    return sum(found.spec(Stage.SELFPLAY, 0, shard).games for shard in found.shards)  # type: ignore[attr-defined]


def test_R59_a_promotion_changes_the_games_and_the_priority_of_the_next_runs(
    bench: Workbench, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = Settings.load().profile("hex8_2p", "tiny").games
    for number, config in enumerate(("hex8_2p", "hex8_3p")):
        promoted(bench, config, f"first{number}")
    assert main(["curriculum", "--json"]) == 0
    before = {row["config"]: row for row in json.loads(capsys.readouterr().out)}
    assert {row["weight"] for row in before.values()} == {1.0}
    for number in range(3):
        promoted(bench, "hex8_2p", f"more{number}")
    two, three = plan(bench, "hex8_2p", "next two"), plan(bench, "hex8_3p", "next three")
    assert games(two) == two.games < profile < three.games == games(three)
    assert abs(two.games + three.games - 2 * profile) <= 1
    assert main(["curriculum", "--json"]) == 0
    after = {row["config"]: row for row in json.loads(capsys.readouterr().out)}
    assert after["hex8_2p"]["priority"] < before["hex8_2p"]["priority"] < after["hex8_3p"]["priority"]
    assert (after["hex8_2p"]["promotions"], after["hex8_4p"]["games"]) == (4, None)
    assert main(["curriculum"]) == 0
    assert "hex8_4p" in capsys.readouterr().out


def test_R59_a_generation_under_way_keeps_its_games_whatever_is_promoted_meanwhile(bench: Workbench) -> None:
    for number, config in enumerate(("hex8_2p", "hex8_3p")):
        promoted(bench, config, f"first{number}")
    under_way = plan(bench, "hex8_3p", "next")
    before = under_way.games
    promoted(bench, "hex8_2p", "more")
    assert under_way.games == before
    assert weights(bench.ledger.promotion_kinds())["hex8_3p"] > 1.0
    first = plan(bench, "square8_2p", "without a net")
    assert first.games == Settings.load().profile("square8_2p", "tiny").first_games


@pytest.mark.parametrize(
    ("moves", "expected"),
    [
        ([], 1.0),
        ([("hex8_2p", "promote")] * 9, 1.0),
        ([("hex8_2p", "promote"), ("hex8_3p", "promote")], 1.0),
        ([("hex8_2p", "promote"), ("hex8_3p", "promote"), ("hex8_2p", "promote")], 0.81 / 0.855),
        ([("hex8_2p", "promote"), ("hex8_3p", "promote"), ("hex8_2p", "rollback")], 1.0 / 0.95),
        ([("hex8_3p", "promote"), *[("hex8_2p", "promote")] * 24], CURRICULUM.least),
    ],
)
def test_R59_the_weights_are_a_function_of_the_promotions(moves: list[Any], expected: float) -> None:
    found = weights(moves)
    assert found["hex8_2p"] == pytest.approx(expected)
    assert found["square19_4p"] == 1.0
    assert all(CURRICULUM.least <= weight <= CURRICULUM.most for weight in found.values())
    assert priority(1.0) == CURRICULUM.priority
