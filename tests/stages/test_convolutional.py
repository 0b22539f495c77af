"""A small convolutional net goes through the stages on a CPU: it trains, plays and is judged."""

from __future__ import annotations

from ringrift_ops.rules.compile import jit as _jit  # noqa: F401  isort: skip

from ringrift_ops.home import Home
from ringrift_ops.stages import export, gauntlet, parity, selfplay, train
from ringrift_ops.stages.heartbeat import Heartbeat, silent
from ringrift_ops.stages.specs import SearchSettings, Verdict
from tests.stages.conftest import Made, changed, export_spec, gauntlet_spec, parity_spec, selfplay_spec

SIZES = {"blocks": 2, "channels": 16}


def test_a_convolutional_net_trains_plays_and_is_judged_through_the_stages(made: Made, house: Home) -> None:
    trained = train.run(changed(made.train, family="convolutional", sizes=SIZES), silent)
    assert trained.served_difference <= 1e-4

    beats: list[Heartbeat] = []
    search = SearchSettings(simulations=3, temperature=0.8, noise_fraction=0.25)
    played = selfplay.run(
        selfplay_spec(games=12, seed=21, player="net", weights=trained.weights, search=search), beats.append
    )
    assert (played.games, played.policy_games, played.distinct_fraction) == (12, 12, 1.0)
    assert (beats[-1].done, beats[-1].total) == (12, 12)
    assert parity.run(parity_spec(played.path), silent).passed
    assert export.run(export_spec(played.path), silent).soft_target_fraction == 1.0

    judged = gauntlet.run(
        gauntlet_spec(
            trained,
            previous=made.trained.weights,
            previous_path=made.trained.path,
            opponents=["random", "heuristic", "previous"],
        ),
        beats.append,
    )
    assert [(one.opponent, one.games) for one in judged.opponents] == [("random", 8), ("heuristic", 8), ("previous", 8)]
    assert judged.verdict is Verdict.FAIL
    assert judged.mirror is not None
    assert beats[-1].phase == "against heuristic_search"
