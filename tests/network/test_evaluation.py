"""Evaluating a net: values per seat, logits per legal move, the same one by one and in batches."""

from __future__ import annotations

from ringrift_ops.rules.compile import jit as _jit  # noqa: F401  isort: skip

import numpy as np
import pytest

from ringrift_ops.network import encoder, sparse
from ringrift_ops.network.policy import FROM_ROLE, THIRD_ROLE, TO_ROLE, move_parts
from ringrift_ops.network.weights import Network, fresh_network
from ringrift_ops.rules.boards import H_CELL, H_LENGTH, H_ON_BOARD, H_ORDER
from ringrift_ops.rules.game import Game, game
from ringrift_ops.rules.layout import S_PLAYER
from tests.network.positions import CONFIGS, legal_lists, random_positions

SPARSE = {"hidden": 32, "dense": 16, "policy": 16}
CONVOLUTIONAL = {"blocks": 2, "channels": 16}


def loud(network: Network) -> Network:
    """The net with policy tensors as large as the others, so that a wrong row shows."""
    rng = np.random.default_rng(5)
    tensors = {k: rng.standard_normal(v.shape).astype(np.float32) * 0.2 for k, v in network.tensors.items()}
    return Network(network.header, tensors, "")


def evaluated_in_plain_numpy(rules: Game, net: Network, state: np.ndarray, moves: np.ndarray) -> tuple[list, list]:
    """The formula of ``sparse.py``, written out slowly."""
    g, t, n = rules.geometry, net.tensors, rules.players
    active = np.empty(encoder.feature_capacity(g), dtype=np.int32)
    active = active[: encoder.features(g, state, active)]
    row = np.empty(encoder.row_bytes(g), dtype=np.uint8)
    encoder.compact(g, state, row)
    numbers = np.empty(encoder.global_count(g), dtype=np.float32)
    encoder.read_globals(g, row, numbers, 0)
    hidden = np.maximum(t["hidden_bias"] + t["cell_rows"][active].sum(axis=0) + numbers @ t["global_rows"], 0)
    query = t["query_bias"] + hidden @ t["query_rows"]
    outputs = t["value_rows"] @ np.maximum(t["dense_bias"] + hidden @ t["dense_rows"], 0) + t["value_bias"]
    mover = int(state[S_PLAYER])
    values = [0.0] * n
    for i in range(n):
        values[(mover - 1 + i) % n] = sum(np.tanh(outputs[i] - o) for o in outputs) / (n - 1)
    cells, contents = int(g[H_ON_BOARD]), int(encoder.content_classes(g))
    logits = []
    for move in moves:
        kind, slot, *where = move_parts(g, move, mover, g[H_LENGTH])
        row = t["slot_rows"][slot].copy()
        for roles, rank in zip((TO_ROLE, FROM_ROLE, THIRD_ROLE), where, strict=True):
            if rank >= 0:
                word = state[g[H_CELL] + g[g[H_ORDER] + rank]]
                row += t["role_rows"][(roles[kind] - 1) * cells + rank]
                row += t["content_rows"][
                    (roles[kind] - 1) * contents + encoder.content_of_word(word, np.int64(mover), np.int64(n))
                ]
        logits.append(float(query @ row))
    return values, logits


@pytest.mark.parametrize("config", CONFIGS)
def test_the_compiled_evaluation_is_the_formula(config: str) -> None:
    rules = game(config)
    net = loud(fresh_network(config, "sparse", SPARSE, 1))
    states = random_positions(config, 12)
    moves, counts = legal_lists(rules, states)
    values, logits = net.evaluate_batch(states, moves, counts)
    for i, state in enumerate(states):
        expected_values, expected_logits = evaluated_in_plain_numpy(rules, net, state, moves[i, : counts[i]])
        np.testing.assert_allclose(values[i], expected_values, atol=2e-5)
        np.testing.assert_allclose(logits[i, : counts[i]], expected_logits, atol=2e-4)
        assert (logits[i, counts[i] :] == -np.inf).all()


@pytest.mark.parametrize("family", ["sparse", "convolutional"])
@pytest.mark.parametrize("config", ["hex8_2p", "square8_3p", "hex8_4p", "hexagonal_2p"])
def test_F6_values_of_every_seat_are_within_one_and_sum_to_nothing(family: str, config: str) -> None:
    rules = game(config)
    sizes = SPARSE if family == "sparse" else CONVOLUTIONAL
    net = loud(fresh_network(config, family, sizes, 1))
    states = random_positions(config, 16)
    moves, counts = legal_lists(rules, states)
    values, logits = net.evaluate_batch(states, moves, counts)
    assert values.shape == (16, rules.players)
    assert np.abs(values).max() <= 1.0
    np.testing.assert_allclose(values.sum(axis=1), 0.0, atol=1e-5)
    if rules.players == 2:
        assert (values[:, 0] == -values[:, 1]).all()
    assert np.std(values[:, 0]) > 0
    assert np.isfinite(logits[np.arange(moves.shape[1]) < counts[:, None]]).all()


@pytest.mark.parametrize("config", ["hex8_2p", "square8_3p", "square19_2p"])
def test_a_convolutional_net_says_the_same_one_by_one_and_in_a_batch(config: str) -> None:
    rules = game(config)
    net = loud(fresh_network(config, "convolutional", CONVOLUTIONAL, 2))
    states = random_positions(config, 9)
    moves, counts = legal_lists(rules, states)
    values, logits = net.evaluate_batch(states, moves, counts)
    for i in range(len(states)):
        one, own = net.evaluate_batch(states[i : i + 1], moves[i : i + 1], counts[i : i + 1])
        np.testing.assert_allclose(one[0], values[i], atol=1e-5)
        np.testing.assert_allclose(own[0], logits[i], atol=1e-3)


@pytest.mark.parametrize(
    ("family", "sizes"), [("sparse", {"hidden": 64, "dense": 32}), ("convolutional", {"blocks": 4, "channels": 32})]
)
def test_a_fresh_net_is_undecided_and_made_from_its_seed_alone(family: str, sizes: dict[str, int]) -> None:
    rules = game("hex8_2p")
    net, again, other = (fresh_network("hex8_2p", family, sizes, seed) for seed in (7, 7, 8))
    assert all((net.tensors[k] == again.tensors[k]).all() for k in net.tensors)
    assert any((net.tensors[k] != other.tensors[k]).any() for k in net.tensors)
    states = random_positions("hex8_2p", 40)
    moves, counts = legal_lists(rules, states)
    values, logits = net.evaluate_batch(states, moves, counts)
    assert np.abs(values).mean() < 0.5
    spread = [logits[i, :n].max() - logits[i, :n].min() for i, n in enumerate(counts)]
    assert np.mean(spread) < 1.0


@pytest.mark.parametrize(
    ("family", "sizes"),
    [
        ("sparse", {"hidden": 64}),
        ("sparse", {"hidden": 60, "dense": 32}),
        ("sparse", {"blocks": 4, "channels": 32}),
        ("convolutional", {"blocks": 4, "channels": 30}),
        ("convolutional", {"hidden": 64, "dense": 32}),
        ("transformer", {"layers": 2}),
    ],
)
def test_F3_sizes_that_are_not_the_familys_are_refused(family: str, sizes: dict[str, int]) -> None:
    with pytest.raises(sparse.SizeError, match=r"size|family"):
        fresh_network("hex8_2p", family, sizes, 1)  # type: ignore[arg-type]
