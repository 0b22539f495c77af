"""The heuristic evaluator: equal to RingRift's recorded values, and to a literal second writing on every config."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ringrift_ops.players.breakdown import breakdown
from ringrift_ops.players.evaluator import FEATURES, WIN_VALUE, evaluate
from ringrift_ops.players.weights import (
    DIFFICULTIES,
    PERSONAS,
    UnknownPersonaError,
    difficulty_weights,
    persona_weights,
)
from ringrift_ops.rules.boards import Cell
from ringrift_ops.rules.game import Game, game
from ringrift_ops.rules.playout import random_game
from tests.players.reference_evaluator import terms

SAMPLE = Path(__file__).parents[1] / "data" / "evaluations.jsonl.gz"
RECORDED = Path(__file__).parents[2].parent / "shared" / "conformance" / "evaluations.jsonl.gz"
CONFIGS = [f"{board}_{n}p" for board in ("square8", "hex8", "square19", "hexagonal") for n in (2, 3, 4)]


def _marker_order(rules: Game, record: dict[str, Any]) -> list[Cell]:
    owners = dict(entry.split(":") for entry in record["init"].split(";")[13][1:].split())
    cells = [key.split(",")[:2] for key in record["mk"]]
    return [(int(x), int(y)) for x, y in cells if owners[f"{x},{y}"] == str(record["p"])]


def _assert_close(found: dict[str, float], expected: dict[str, float], what: str) -> None:
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-9, abs=1e-9), f"{name} of {what}"


@pytest.mark.parametrize("path", [SAMPLE, pytest.param(RECORDED, marks=pytest.mark.skipif(
    not RECORDED.exists(), reason=f"no recorded evaluations: {RECORDED}"))], ids=["sample", "all"])  # fmt: skip
def test_every_recorded_term_and_total_is_reproduced(path: Path) -> None:
    compared = 0
    with gzip.open(path, "rt") as file:
        for line in file:
            record = json.loads(line)
            rules = game(f"{record['bt']}_{record['n']}p")
            found = breakdown(rules, rules.parse_state(record["init"]), record["p"], order=_marker_order(rules, record))
            _assert_close(found, record["ev"], f"line {compared + 1} of {path.name}")
            compared += 1
    assert compared >= 40


@pytest.mark.parametrize("config", CONFIGS)
def test_positions_of_play_get_the_values_of_the_literal_rules_for_every_seat(config: str) -> None:
    rules = game(config)
    record = np.empty(4000, dtype=np.int64)
    length = random_game(rules.geometry, rules.initial_state(), 7, record, np.empty(16384, dtype=np.int64), rules.zero)
    state = rules.initial_state()
    stride = max(1, length // 24)
    for ply in range(length):
        state = rules.apply_unchecked(state, record[ply])
        if ply % stride:
            continue
        text = rules.state_string(state)
        owners = dict(entry.split(":") for entry in text.split(";")[13][1:].split())
        for seat in range(1, rules.players + 1):
            order = sorted(
                (
                    (int(key.split(",")[0]), int(key.split(",")[1]))
                    for key, owner in owners.items()
                    if owner == str(seat)
                ),
                key=rules.board.index,
            )
            expected = terms(config, text, seat, order)
            _assert_close(breakdown(rules, state, seat), expected, f"seat {seat} at {text}")
            if not rules.is_over(state):
                value = evaluate(rules.geometry, state, seat, persona_weights("balanced"), rules.zero)
                assert value == pytest.approx(expected["total"], rel=1e-9, abs=1e-9)


def test_a_finished_game_is_worth_winning_or_losing() -> None:
    rules = game("hex8_3p")
    record = np.empty(4000, dtype=np.int64)
    scratch = np.empty(16384, dtype=np.int64)
    length = random_game(rules.geometry, rules.initial_state(), 3, record, scratch, rules.zero)
    state = rules.initial_state()
    for move in record[:length]:
        state = rules.apply_unchecked(state, move)
    result = rules.result(state)
    assert result is not None
    for seat in (1, 2, 3):
        value = evaluate(rules.geometry, state, seat, difficulty_weights(5), rules.zero)
        assert value == (WIN_VALUE if seat == result.winner else -WIN_VALUE)


def test_difficulty_five_is_aggressive_and_the_low_ones_are_scaled() -> None:
    balanced = persona_weights("balanced")
    assert np.array_equal(difficulty_weights(4), balanced)
    for difficulty in range(5, 11):
        assert np.array_equal(difficulty_weights(difficulty), persona_weights("aggressive"))
    diversity = FEATURES.index("stackDiversity")
    halved = difficulty_weights(2)
    assert halved[diversity] == balanced[diversity]
    assert np.array_equal(np.delete(halved, diversity), np.delete(balanced, diversity) * 0.5)
    assert persona_weights("aggressive")[FEATURES.index("eliminatedRings")] == 12 * 1.25


@pytest.mark.parametrize("persona", PERSONAS)
def test_personas_name_only_features_that_exist(persona: str) -> None:
    assert set(PERSONAS[persona]) <= set(FEATURES)


def test_unknown_personas_and_difficulties_are_named_errors() -> None:
    with pytest.raises(UnknownPersonaError, match="balanced, aggressive"):
        persona_weights("bold")
    with pytest.raises(UnknownPersonaError, match="2 to 10"):
        difficulty_weights(max(DIFFICULTIES) + 1)
