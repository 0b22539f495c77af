"""The TypeScript engine behind the protocol of ``ringrift rules conform``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ringrift_ops.parity.conform_engine import TypescriptEngine
from ringrift_ops.rules.conform import compare_file
from ringrift_ops.rules.game import StateStringError, game

DATA = Path(__file__).resolve().parents[1] / "data"
RECORDINGS = sorted(path.name for path in DATA.glob("*.jsonl.gz") if path.name != "evaluations.jsonl.gz")


@pytest.fixture(scope="module")
def engine() -> Iterator[TypescriptEngine]:
    with TypescriptEngine() as engine:
        yield engine


@pytest.mark.parametrize("name", RECORDINGS)
def test_recorded_games_and_positions_show_no_difference(name: str, engine: TypescriptEngine) -> None:
    report = compare_file(DATA / name, engine)
    assert report.ok, report.first and report.first.in_words()


def test_evaluations_are_left_to_the_other_engine(engine: TypescriptEngine) -> None:
    report = compare_file(DATA / "evaluations.jsonl.gz", engine)
    assert report.evaluations == 0
    assert report.not_evaluated > 0


def test_a_move_that_is_not_legal_in_a_position_is_none_and_the_others_are_answered(engine: TypescriptEngine) -> None:
    rules = game("hex8_2p")
    start = rules.state_string(rules.initial_state())
    answer = engine.position("p", "hex8", 2, start, ["P0,0*1", "0L", "P1,0*1"])
    assert [state is None for state in answer.after] == [False, True, False]
    assert len(answer.legal.split()) == len(rules.legal_moves(rules.initial_state()))


def test_a_state_string_that_is_none_is_said_so(engine: TypescriptEngine) -> None:
    with pytest.raises(StateStringError, match="fields"):
        engine.position("p", "hex8", 2, "p1;RP", [])
