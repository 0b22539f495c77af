"""Many games at once are the games that compiled code plays one after the other."""

from __future__ import annotations

from ringrift_ops.rules.compile import jit as _jit  # noqa: F401  isort: skip

from collections.abc import Iterator

import numpy as np
import pytest

from ringrift_ops.network.weights import fresh_network
from ringrift_ops.players import batched
from ringrift_ops.players.batched import BatchedPlay, GameOrder, needs_batches
from ringrift_ops.players.match import OpeningResult, play_openings
from ringrift_ops.players.play import Policies, new_policies
from ringrift_ops.players.roster import Openings, Player, PlayerError, PlayerKind, Roster
from ringrift_ops.rules.game import Game, game
from ringrift_ops.stages.specs import SearchSettings

MOST = 450
PLAIN = SearchSettings(simulations=0, temperature=0.5)


def net(config: str, simulations: int, family: str = "sparse") -> Player:
    """A net at a random start that searches with noise, temperature and uniform moves."""
    sizes = {"hidden": 16, "dense": 16} if family == "sparse" else {"blocks": 1, "channels": 8}
    search = SearchSettings(simulations=simulations, temperature=0.8, noise_fraction=0.25, random_move_fraction=0.1)
    return Player(PlayerKind.NET, search, fresh_network(config, family, sizes, 3))


def orders(rules: Game, count: int) -> Iterator[GameOrder]:
    """Games in which player 0 sits in another seat each time."""
    openings, start = Openings(rules), rules.initial_state()
    for number in range(count):
        seats = np.roll([0] + [1] * (rules.players - 1), number).astype(np.int64)
        yield GameOrder(number, start, openings.draw(start, 4, number), seats, 1000 + number)


def room() -> Policies:
    return new_policies(MOST, 8 * MOST)


def written(policies: Policies) -> list[bytes]:
    rows = policies.used[0]
    entries = policies.starts[rows]
    arrays = [policies.plies[:rows], policies.starts[: rows + 1]]
    arrays += [array[:entries] for array in (policies.moves, policies.indices, policies.shares)]
    return [array.tobytes() for array in arrays]


@pytest.mark.parametrize("config", ["hex8_2p", "hex8_3p"])
@pytest.mark.parametrize("simulations", [6, 0])
def test_games_at_once_are_move_for_move_those_of_compiled_code(
    config: str, simulations: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batched, "GAMES_AT_ONCE", 5)  # fewer than games: lanes are used again
    rules = game(config)
    players = [net(config, simulations), Player(PlayerKind.HEURISTIC, PLAIN)]
    roster, record = Roster(rules, players), np.empty(MOST, dtype=np.int64)
    expected = {}
    for order in orders(rules, 8):
        policies = room()
        codes = roster.play(order.start, order.opening, order.seats, order.seed, record, policies)
        expected[order.number] = (codes.tolist(), written(policies), roster.state.tolist())
    played = {
        one.order.number: (one.codes.tolist(), written(one.policies), one.state.tolist())
        for one in BatchedPlay(rules, players, MOST, room).games(orders(rules, 8))
    }
    assert played == expected


def test_a_convolutional_net_meets_every_kind_of_player_in_paired_openings() -> None:
    candidate = net("hex8_2p", 2, "convolutional")
    assert needs_batches(candidate)
    seen: list[OpeningResult] = []
    beats = [0]

    def beat() -> None:
        beats[0] += 1

    for baseline in (Player(PlayerKind.RANDOM, PLAIN), net("hex8_2p", 2), net("hex8_2p", 0, "convolutional")):
        results = play_openings(
            "hex8_2p", candidate, baseline, [(7, 70), (8, 80), (9, 90)],
            decisions=6, max_moves=MOST, threads=1, done=seen.append, meanwhile=beat,
        )  # fmt: skip
        assert [one.number for one in results] == [7, 8, 9]
        assert seen[-3:] == results
        assert all(all(one.finished) and set(one.winners) <= {1, 2} for one in results)
        assert len({digest for one in results for digest in one.digests}) == 6
    assert beats[0] > 0


def test_a_cap_ends_games_and_a_net_needs_weights() -> None:
    rules, player = game("hex8_2p"), net("hex8_2p", 2)
    games = list(BatchedPlay(rules, [player, player], 9, room).games(orders(rules, 3)))
    assert [len(one.codes) for one in games] == [9, 9, 9]
    with pytest.raises(PlayerError, match="without weights"):
        BatchedPlay(rules, [Player(PlayerKind.NET, PLAIN)], 9, room)
