"""The evaluator's terms by RingRift's names, for people and for the recorded evaluations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ringrift_ops.players.evaluator import FEATURES, N_FEATURES, closure_in_order, features
from ringrift_ops.players.weights import Weights, persona_weights
from ringrift_ops.rules.boards import H_CELL, Cell
from ringrift_ops.rules.game import Game, StateStringError
from ringrift_ops.rules.layout import MARKER

_PARTS_OF_STACK_CONTROL = ("stackHeight", "stackDiversity")


def feature_values(
    rules: Game, state: npt.NDArray[np.int64], seat: int, order: Sequence[Cell] | None = None
) -> npt.NDArray[np.float64]:
    """The features of a seat in a position, float64 [N_FEATURES] in the order of ``FEATURES``.

    ``order``: the seat's markers in the order they were placed, which only ``territoryClosure``
    looks at; without it they are taken in order of cell index.
    """
    values = np.empty(N_FEATURES)
    features(rules.geometry, state, seat, values, rules.zero)
    if order is not None:
        cells = np.array([rules.cell_index(cell) for cell in order], dtype=np.int64)
        closure = closure_in_order(rules.geometry, cells)
        values[FEATURES.index("territoryClosure")] = closure
    return values


def breakdown(
    rules: Game,
    state: npt.NDArray[np.int64],
    seat: int,
    weights: Weights | None = None,
    order: Sequence[Cell] | None = None,
) -> dict[str, float]:
    """Weighted terms and their ``total`` by RingRift's names; ``stackControl`` holds the height and
    diversity of stacks as well. ``weights`` default to the balanced ones.
    """
    weighed = feature_values(rules, state, seat, order) * (persona_weights("balanced") if weights is None else weights)
    terms = {name: float(value) for name, value in zip(FEATURES, weighed, strict=True)}
    for part in _PARTS_OF_STACK_CONTROL:
        terms["stackControl"] += terms.pop(part)
    return terms | {"total": sum(terms.values())}


def recorded_breakdown(
    rules: Game, state: npt.NDArray[np.int64], seat: int, marker_keys: Sequence[str]
) -> dict[str, float]:
    """As RingRift recorded it: balanced weights; ``marker_keys`` are all seats' markers as placed.

    Raises StateStringError for a key that is not a cell.
    """
    order = []
    for key in marker_keys:
        x, y, *_ = [*key.split(","), "", ""]
        if not (x.lstrip("-").isdigit() and y.lstrip("-").isdigit()):
            raise StateStringError(f"{key!r} is not a marker's cell")
        cell = int(x), int(y)
        word = state[rules.geometry[H_CELL] + rules.cell_index(cell)]
        if word == MARKER | seat << 2:
            order.append(cell)
    return breakdown(rules, state, seat, order=order)
