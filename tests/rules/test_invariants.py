"""Invariants of RULES.md 2.2 over games that hypothesis chooses, and the checker itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringrift_ops.cli import main
from ringrift_ops.errors import ExitCode
from ringrift_ops.rules import layout as l
from ringrift_ops.rules.boards import H_CELL, H_COLLAPSED, H_MARKERS
from ringrift_ops.rules.game import Game, State, game
from ringrift_ops.rules.invariants import (
    BITBOARDS,
    BROKEN,
    COUNTERS,
    IMPOSSIBLE,
    OVERLAP,
    RING_SUM,
    STACK_WORD,
    TERRITORY_COUNT,
    broken_invariant,
    check_games,
)

CONFIGS = [f"{board}_{n}p" for board in ("square8", "hex8", "square19", "hexagonal") for n in (2, 3, 4)]
SMALL = [config for config in CONFIGS if "8" in config]
choices = st.lists(st.integers(0, 2**31), min_size=0, max_size=250)


def _lists(text: str) -> tuple[list[str], list[str], list[str]]:
    stacks, markers, collapsed = (field[1:].split() for field in text.split(";")[12:15])
    return stacks, markers, collapsed


def _check(rules: Game, state: State, spent: int) -> int:
    """All invariants from the state string alone; returns markers + collapsed + eliminated."""
    text = rules.state_string(state)
    fields = text.split(";")
    stacks, markers, collapsed = _lists(text)
    cells = [entry.split(":")[0] for entry in stacks + markers + collapsed]
    assert len(cells) == len(set(cells))
    hand, eliminated, territory = ([int(v) for v in field[1:].split("/")] for field in fields[7:10])
    for seat in range(1, rules.players + 1):
        assert territory[seat - 1] == sum(entry.endswith(f":{seat}") for entry in collapsed)
        assert state[l.S_STACKS + seat - 1] == sum(entry.endswith(str(seat)) for entry in stacks)
        assert state[l.S_MARKER_COUNT + seat - 1] == sum(entry.endswith(f":{seat}") for entry in markers)
    on_board = sum(len(entry.split(":")[1]) for entry in stacks)
    assert sum(hand) + sum(eliminated) + on_board == rules.players * rules.board.rings_per_player
    assert rules.state_string(rules.parse_state(text)) == text
    keys = rules.keys(state, rules.legal_moves(state))
    assert len(keys) == len(set(keys))
    assert (len(keys) == 0) == rules.is_over(state)
    assert broken_invariant(rules.geometry, state, rules.zero) == 0
    progress = len(markers) + len(collapsed) + sum(eliminated)
    assert progress >= spent
    return progress


@settings(max_examples=60, deadline=None)
@given(config=st.sampled_from(SMALL), choose=choices, swap=st.booleans())
def test_every_position_of_any_game_keeps_the_invariants(config: str, choose: list[int], swap: bool) -> None:
    rules = game(config)
    state = rules.initial_state(swap and rules.players == 2)
    spent = 0
    for pick in choose:
        moves = rules.legal_moves(state)
        if len(moves) == 0:
            break
        state = rules.apply(state, int(moves[pick % len(moves)]))
        spent = _check(rules, state, spent)


@settings(max_examples=8, deadline=None)
@given(config=st.sampled_from(sorted(set(CONFIGS) - set(SMALL))), choose=choices)
def test_every_position_of_the_large_boards_keeps_the_invariants(config: str, choose: list[int]) -> None:
    rules = game(config)
    state = rules.initial_state()
    for i, pick in enumerate(choose):
        moves = rules.legal_moves(state)
        state = rules.apply_unchecked(state, int(moves[pick % len(moves)]))
        if i % 10 == 0:
            _check(rules, state, 0)


@pytest.mark.parametrize("config", CONFIGS)
def test_random_games_break_nothing_and_end(config: str) -> None:
    small = config in SMALL
    campaign = check_games(game(config), 300 if small else 3, seed=20, every=1 if small else 3)
    assert campaign.broken is None
    assert campaign.unfinished == 0
    assert sum(campaign.wins) == campaign.games


def _mid_game() -> tuple[Game, State]:
    rules = game("hex8_2p")
    state = rules.parse_state(
        "p1;MV;A;m-;c-;e-;ta;h10/12;x1/1;g1/0;l0/--/0/0;y-;s0,0:11 2,1:122 -1,0:112;k1,1:1;z0,1:1"
    )
    state[l.S_HAND] += 2 * 18 - 24 - 8
    assert broken_invariant(rules.geometry, state, rules.zero) == 0
    return rules, state


@pytest.mark.parametrize(
    ("word", "add", "expected"),
    [
        (l.S_TERRITORY, 1, TERRITORY_COUNT),
        (l.S_HAND, 1, RING_SUM),
        (l.S_ELIMINATED + 1, -1, RING_SUM),
        (l.S_STACKS, 1, COUNTERS),
        (l.S_MARKER_COUNT, 1, COUNTERS),
        (l.S_ON_BOARD, 1, COUNTERS),
        (l.S_PLAYER, 4, IMPOSSIBLE),
    ],
)
def test_the_checker_sees_a_wrong_counter(word: int, add: int, expected: int) -> None:
    rules, state = _mid_game()
    state[word] += add
    assert BROKEN[broken_invariant(rules.geometry, state, rules.zero)] == BROKEN[expected]


def test_the_checker_sees_cells_and_bitboards_part() -> None:
    rules, state = _mid_game()
    g = rules.geometry
    torn = state.copy()
    torn[g[H_CELL] + rules.cell_index((1, 1))] = 0
    assert broken_invariant(g, torn, rules.zero) == BITBOARDS
    doubled = state.copy()
    doubled[g[H_COLLAPSED]] |= doubled[g[H_MARKERS]]
    assert broken_invariant(g, doubled, rules.zero) == OVERLAP
    taller = state.copy()
    taller[g[H_CELL] + rules.cell_index((0, 0))] += 1 << 8
    assert broken_invariant(g, taller, rules.zero) == STACK_WORD
    capped = state.copy()
    capped[g[H_CELL] + rules.cell_index((2, 1))] += np.int64(1) << 20
    assert broken_invariant(g, capped, rules.zero) == STACK_WORD


def test_the_command_checks_one_config(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "check", "--config", "hex8_2p", "--games", "20"]) == ExitCode.DONE
    assert "hex8_2p: 20 games" in capsys.readouterr().out
