"""Value targets: RULES.md 5.3 and gates.md."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringrift_ops.network.targets import NoWinnerError, by_seat, relative_to, value_targets

standings = st.integers(2, 4).flatmap(
    lambda n: st.tuples(
        st.integers(1, n),
        st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)), min_size=n, max_size=n),
    )
)


@given(standings)
def test_F6_the_winner_is_strictly_the_maximum_and_the_mean_is_zero(case: tuple[int, list[tuple[int, ...]]]) -> None:
    winner, rows = case
    values = value_targets(winner, rows)
    assert values[winner - 1] == 1.0
    assert (np.delete(values, winner - 1) < 1.0).all()
    assert abs(float(values.sum())) < 1e-6
    assert values.min() >= -1.0


@given(standings, st.integers(0, 3))
def test_F6_rotating_the_seats_rotates_the_targets(case: tuple[int, list[tuple[int, ...]]], by: int) -> None:
    winner, rows = case
    n = len(rows)
    turned = [rows[(i - by) % n] for i in range(n)]
    assert (value_targets((winner - 1 + by) % n + 1, turned) == np.roll(value_targets(winner, rows), by)).all()


@given(standings)
def test_F6_better_standings_never_get_less(case: tuple[int, list[tuple[int, ...]]]) -> None:
    winner, rows = case
    values = value_targets(winner, rows)
    others = [i for i in range(len(rows)) if i != winner - 1]
    for i in others:
        for j in others:
            assert (values[i] > values[j]) == (rows[i] > rows[j])


@pytest.mark.parametrize("winner", [1, 2])
def test_F6_two_players_get_plus_and_minus_one_whatever_the_standings(winner: int) -> None:
    assert sorted(value_targets(winner, [(0, 9, 0), (0, 1, 0)]).tolist()) == [-1.0, 1.0]
    assert value_targets(winner, [(5, 0, 0), (0, 0, 0)])[winner - 1] == 1.0


def test_F6_a_winner_behind_in_territory_is_still_first() -> None:
    values = value_targets(3, [(40, 0, 0), (3, 0, 0), (0, 9, 0), (3, 1, 0)])
    assert values.tolist() == pytest.approx([1 / 3, -1, 1, -1 / 3])


def test_equal_standings_share_their_places() -> None:
    assert value_targets(1, [(9,), (2,), (2,)]).tolist() == [1.0, -0.5, -0.5]


def test_a_game_without_a_winner_has_no_targets() -> None:
    with pytest.raises(NoWinnerError):
        value_targets(0, [(1,), (2,)])


def test_relative_values_begin_with_the_mover() -> None:
    values = np.array([0.1, 0.2, 0.3], np.float32)
    assert relative_to(values, 2).tolist() == pytest.approx([0.2, 0.3, 0.1])
    assert (by_seat(relative_to(values, 3), 3) == values).all()
