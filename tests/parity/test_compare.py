"""What parity compares: both engines and the record agree on every config, and each kind of lie is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ringrift_ops.games.records import GameRecord
from ringrift_ops.parity.compare import Divergence, compare, typescript_replay
from ringrift_ops.parity.node import EngineProcess, replay_request
from ringrift_ops.parity.replay import LEGAL_HASH, STATE_HASH, Replayer
from ringrift_ops.rules.game import game
from ringrift_ops.rules.move_json import translator
from ringrift_ops.rules.notation import hex16
from ringrift_ops.settings.names import config_named
from tests.games.traces import CONFIGS
from tests.parity.played import random_record


def judged(record: GameRecord) -> Divergence | None:
    row = config_named(record.config)
    write = translator(row.board).to_json
    moves = tuple(
        write(key, seat, game_id=record.game_id, move_number=number)
        for number, (key, seat) in enumerate(zip(record.moves, record.seats, strict=True))
    )
    with EngineProcess() as engine:
        request = replay_request(record.game_id, row.board, row.players, moves, swap_rule=record.swap_rule)
        typescript = typescript_replay(engine.ask(request))
    python = Replayer(game(record.config)).replay(record.moves, swap_rule=record.swap_rule)
    return compare(record, python, typescript)


@pytest.mark.parametrize("config", CONFIGS)
def test_both_engines_and_the_record_agree(config: str) -> None:
    assert judged(random_record(config, 1, swap_rule=config.endswith("_2p"))) is None


def test_F20_a_game_stopped_at_the_cap_is_compared_like_any_other() -> None:
    record = random_record("hex8_2p", 1, max_moves=50)
    assert record.termination_reason == "max_moves"
    assert judged(record) is None


def test_the_compiled_replay_gives_the_numbers_of_the_public_surface() -> None:
    record = random_record("hex8_3p", 3)
    rules = game("hex8_3p")
    replay = Replayer(rules).replay(record.moves, swap_rule=False)
    state = rules.initial_state()
    for number, key in enumerate(record.moves):
        row = replay.facts[number]
        assert (row[0], hex16(row[LEGAL_HASH])) == rules.legal_hash(state)
        state = rules.apply(state, rules.parse_key(state, key))
        assert hex16(row[STATE_HASH]) == rules.state_hash(state)


def test_a_replay_ends_at_the_first_move_that_is_not_legal() -> None:
    keys = [*random_record("hex8_2p", 0).moves[:20], "M0,0>9,9", "0L"]
    replay = Replayer(game("hex8_2p")).replay(keys, swap_rule=False)
    assert replay.steps == 20
    assert not replay.over


def test_a_game_without_moves_is_its_initial_position() -> None:
    rules = game("hex8_2p")
    replay = Replayer(rules).replay([], swap_rule=False)
    assert (replay.steps, replay.final_count, hex16(replay.final_hash)) == (0, *rules.legal_hash(rules.initial_state()))


def changed(record: GameRecord, field: str, at: int, value: Any) -> GameRecord:
    values = list(getattr(record, field))
    values[at] = value
    return replace(record, **{field: tuple(values)})


def other_code(record: GameRecord, at: int) -> GameRecord:
    """The record with the code of another move that is legal there too beside the move ``at``."""
    codes = np.frombuffer(record.move_codes or b"", "<i8").copy()
    rules = game(record.config)
    state = rules.initial_state(record.swap_rule)
    for code in codes[:at]:
        state = rules.apply(state, int(code))
    codes[at] = next(int(code) for code in rules.legal_moves(state) if code != codes[at])
    return replace(record, move_codes=codes.tobytes())


def one_move_more(record: GameRecord) -> GameRecord:
    return replace(
        record, moves=(*record.moves, "0L"), seats=(*record.seats, 1), phases=(*record.phases, "LP"), final_hash=None
    )


@pytest.mark.parametrize(
    ("lie", "move", "kinds"),
    [
        (lambda record: changed(record, "moves", 4, "X0,0"), 4, ("illegal_python", "illegal_typescript")),
        (lambda record: changed(record, "phases", 6, "CA"), 6, ("recorded_phase",)),
        (lambda record: other_code(record, 8), 8, ("recorded_code",)),
        (lambda record: replace(record, winner=3 - record.winner), -1, ("recorded_result",)),
        (lambda record: replace(record, termination_reason="structural"), -1, ("recorded_result",)),
        (lambda record: replace(record, winner=None, termination_reason="max_moves"), -1, ("recorded_result",)),
        (lambda record: changed(record, "eliminated", 0, 99), -1, ("recorded_numbers",)),
        (lambda record: changed(record, "in_hand", 1, 99), -1, ("recorded_numbers",)),
        (lambda record: replace(record, final_hash="0123456789abcdef"), -1, ("recorded_hash",)),
        (one_move_more, -1, ("move_count",)),
    ],
    ids=[
        "illegal move",
        "phase",
        "code",
        "winner",
        "reason",
        "cap",
        "eliminated",
        "hand",
        "hash",
        "move after the end",
    ],
)
def test_a_record_that_is_wrong_is_found_at_its_move(
    lie: Callable[[GameRecord], GameRecord], move: int, kinds: tuple[str, ...]
) -> None:
    record = lie(random_record("hex8_2p", 7))
    divergence = judged(record)
    assert divergence is not None
    assert (divergence.move, divergence.kinds) == (move % len(record.moves), kinds)
    assert divergence.message


def test_a_game_that_stops_before_its_end_is_a_game_without_end() -> None:
    record = random_record("hex8_2p", 7)
    short = replace(
        record, moves=record.moves[:40], seats=record.seats[:40], phases=record.phases[:40], final_hash=None
    )
    divergence = judged(short)
    assert divergence is not None
    assert divergence.kinds[0] == "game_without_end"
    assert divergence.move == 39
