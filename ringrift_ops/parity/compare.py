"""One game seen by both engines and by its record: where do they part for the first time?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ringrift_ops.games.records import GameRecord, termination_reason
from ringrift_ops.parity.replay import (
    FACTS,
    LEGAL_COUNT,
    LEGAL_HASH,
    PHASE,
    PHASE_AFTER,
    PLAYER,
    PLAYER_AFTER,
    STATE_HASH,
    Replay,
)
from ringrift_ops.rules import layout

BEFORE: Final = {
    LEGAL_COUNT: "legal_count",
    LEGAL_HASH: "legal_list",
    PHASE: "current_phase",
    PLAYER: "current_player",
}
AFTER: Final = {PHASE_AFTER: "current_phase", PLAYER_AFTER: "current_player", STATE_HASH: "state_hash"}
"""Column of the facts -> kind of mismatch, in RingRift's words where it has one (pipeline-facts 2.3)."""

NON_CANONICAL: Final = "non_canonical_history"
ILLEGAL_PYTHON, ILLEGAL_TYPESCRIPT = "illegal_python", "illegal_typescript"

_PHASES: Final = {code: number for number, code in enumerate(layout.PHASE_CODES)}
_HIGH: Final = 1 << 63


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first move (0-based) at which not all agree, and in what.

    ``kinds``: between the engines ``legal_count``, ``legal_list``, ``current_phase``, ``current_player``,
    ``state_hash``, ``illegal_python``, ``illegal_typescript``, ``result``; against the record
    ``recorded_phase``, ``recorded_player``, ``recorded_code`` (a dataset is made from the codes beside the moves),
    ``recorded_result``, ``recorded_numbers``, ``recorded_hash``, ``move_count`` (moves after the end) and
    ``game_without_end``.
    """

    move: int
    kinds: tuple[str, ...]
    message: str

    def __str__(self) -> str:
        return f"move {self.move}: {', '.join(self.kinds)}: {self.message}"


def typescript_replay(answer: dict[str, Any]) -> Replay:
    """The engine's answer to a replay with detail ``hash`` as arrays."""
    steps = answer["steps"]
    facts = np.empty((len(steps), FACTS), dtype=np.int64)
    if steps:
        counts, lists, phases, seats, phases_after, seats_after, hashes = zip(*steps, strict=True)
        facts[:, LEGAL_COUNT] = counts
        facts[:, LEGAL_HASH] = [_pattern(text) for text in lists]
        facts[:, PHASE] = [_PHASES[code] for code in phases]
        facts[:, PLAYER] = seats
        facts[:, PHASE_AFTER] = [_PHASES[code] for code in phases_after]
        facts[:, PLAYER_AFTER] = seats_after
        facts[:, STATE_HASH] = [_pattern(text) for text in hashes]
    result = answer["result"]
    count, listed = answer["final"]
    return Replay(
        facts, count, _pattern(listed), result["winner"] if result else 0, result["kind"] if result else "", None
    )


def _pattern(text: str) -> int:
    """16 hex digits as the int64 with these bits."""
    bits = int(text, 16)
    return bits - 2 * _HIGH if bits >= _HIGH else bits


def compare(record: GameRecord, python: Replay, typescript: Replay) -> Divergence | None:
    """The first divergence between both engines and the record, None if there is none.

    A game stopped at its move cap is compared like any other; every other game must be over in both engines at its
    last move, with the winner, reason and final numbers that the record says.
    """
    moves = len(record.moves)
    move, kinds = _first_difference(python, typescript, moves)
    recorded, recorded_kinds = _against_record(record, python)
    if recorded <= move:
        kinds = kinds + recorded_kinds if recorded == move else recorded_kinds
        move = recorded
    if kinds:
        return Divergence(move, tuple(kinds), _in_words(record, python, typescript, move, kinds))
    end = _end_kinds(record, python, typescript)
    if end:
        return Divergence(moves - 1, tuple(end), _in_words(record, python, typescript, moves - 1, end))
    return None


def _first_difference(python: Replay, typescript: Replay, moves: int) -> tuple[int, list[str]]:
    """First move at which the engines differ and how; (moves, []) when they agree to the end."""
    common = min(python.steps, typescript.steps)
    unequal = python.facts[:common] != typescript.facts[:common]
    rows = unequal.any(axis=1)
    if rows.any():
        move = int(rows.argmax())
        columns = np.flatnonzero(unequal[move]).tolist()
        kinds = [BEFORE[column] for column in columns if column in BEFORE]
        return move, kinds or [AFTER[column] for column in columns]
    kinds = []
    if python.steps == common < typescript.steps:
        kinds.append(ILLEGAL_PYTHON)
    if typescript.steps == common < python.steps:
        kinds.append(ILLEGAL_TYPESCRIPT)
    count, listed = _list_at(python, common)
    other_count, other_list = _list_at(typescript, common)
    if count != other_count:
        kinds.append("legal_count")
    if listed != other_list:
        kinds.append("legal_list")
    if python.steps == common == typescript.steps < moves:
        ended = python.over and typescript.over
        kinds += ["move_count"] if ended else [ILLEGAL_PYTHON, ILLEGAL_TYPESCRIPT]
    return (min(common, moves - 1) if kinds else moves), kinds


def _list_at(replay: Replay, move: int) -> tuple[int, int]:
    if move < replay.steps:
        return int(replay.facts[move, LEGAL_COUNT]), int(replay.facts[move, LEGAL_HASH])
    return replay.final_count, replay.final_hash


def _against_record(record: GameRecord, python: Replay) -> tuple[int, list[str]]:
    """First played move whose recorded phase, seat or move code is not Python's."""
    steps = python.steps
    phases = np.array([_PHASES[code] for code in record.phases[:steps]], dtype=np.int64)
    seats = np.array(record.seats[:steps], dtype=np.int64)
    wrong_phase = phases != python.facts[:, PHASE]
    wrong_seat = seats != python.facts[:, PLAYER]
    wrong_code = np.zeros(steps, dtype=np.bool_)
    if record.move_codes is not None and python.codes is not None:
        recorded = record.move_codes[: 8 * steps].ljust(8 * steps, b"\xff")
        wrong_code = np.frombuffer(recorded, "<i8") != python.codes
    wrong = wrong_phase | wrong_seat | wrong_code
    if not wrong.any():
        return len(record.moves), []
    move = int(wrong.argmax())
    told = {"recorded_phase": wrong_phase, "recorded_player": wrong_seat, "recorded_code": wrong_code}
    return move, [kind for kind, moves in told.items() if moves[move]]


def _end_kinds(record: GameRecord, python: Replay, typescript: Replay) -> list[str]:
    """What differs at the end of a game whose moves all agree."""
    kinds = []
    if (python.winner, python.kind) != (typescript.winner, typescript.kind):
        kinds.append("result")
    if not python.over and record.termination_reason != "max_moves":
        kinds.append("game_without_end")
    elif (record.winner or 0, record.termination_reason) != _result_of(python):
        kinds.append("recorded_result")
    if _numbers_of(record, python) != (record.in_hand, record.eliminated, record.territory):
        kinds.append("recorded_numbers")
    final = int(python.facts[-1, STATE_HASH]) if python.steps else 0
    if record.final_hash is not None and record.final_hash != f"{final & (2 * _HIGH - 1):016x}":
        kinds.append("recorded_hash")
    return kinds


def _result_of(replay: Replay) -> tuple[int, str]:
    return replay.winner, termination_reason(replay.kind or "max_moves")


def _numbers_of(record: GameRecord, python: Replay) -> tuple[tuple[int, ...], ...]:
    assert python.state is not None
    seats = len(record.players)
    return tuple(
        tuple(int(n) for n in python.state[offset : offset + seats])
        for offset in (layout.S_HAND, layout.S_ELIMINATED, layout.S_TERRITORY)
    )


def _in_words(record: GameRecord, python: Replay, typescript: Replay, move: int, kinds: list[str]) -> str:
    """The values behind the first kind."""
    key = record.moves[move]
    mine, theirs = (_step_of(replay, move) for replay in (python, typescript))
    match kinds[0]:
        case "illegal_python" | "illegal_typescript":
            both = {"illegal_python", "illegal_typescript"} <= set(kinds)
            who = "neither engine" if both else "Python" if kinds[0] == "illegal_python" else "TypeScript"
            return f"{key} is {'legal in' if both else 'not legal in'} {who}"
        case "legal_count" | "legal_list":
            return f"{_list_at(python, move)[0]} legal moves in Python, {_list_at(typescript, move)[0]} in TypeScript"
        case "current_phase" | "current_player" | "state_hash":
            return f"around {key}: Python {mine}, TypeScript {theirs}"
        case "recorded_phase" | "recorded_player":
            return f"recorded as seat {record.seats[move]} in {record.phases[move]}, Python {mine}"
        case "recorded_code":
            return f"the code recorded beside {key} is another move's"
        case "move_count":
            return f"{len(record.moves)} moves are recorded, both engines end the game after {python.steps}"
        case "game_without_end":
            return f"the game goes on in Python after {key}, recorded as {record.termination_reason}"
        case "result":
            return f"Python {python.winner} {python.kind}, TypeScript {typescript.winner} {typescript.kind}"
        case "recorded_result":
            winner, reason = _result_of(python)
            return f"recorded {record.winner} {record.termination_reason}, played {winner or None} {reason}"
        case "recorded_hash":
            return f"recorded {record.final_hash}"
        case _:
            played = _numbers_of(record, python)
            return (
                f"hands, eliminated, territory recorded {record.in_hand} {record.eliminated} {record.territory}, "
                f"played {played[0]} {played[1]} {played[2]}"
            )


def _step_of(replay: Replay, move: int) -> str:
    if move >= replay.steps:
        return "stopped"
    row = replay.facts[move].tolist()
    phase, after = layout.PHASE_CODES[row[PHASE]], layout.PHASE_CODES[row[PHASE_AFTER]]
    return f"seat {row[PLAYER]} {phase} -> seat {row[PLAYER_AFTER]} {after}"
