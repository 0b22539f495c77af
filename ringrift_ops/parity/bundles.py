"""State bundles: what both engines saw around a divergence, in one file, and that file in words (R69).

Keys are RingRift's (pipeline-facts 2.4) with its index: state k is the state after k moves, so a divergence at the
0-based move m is diverged at k = m + 1 and the bundle holds k - 1 and k. Ours besides: the whole legal lists and the
state strings of both engines.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ringrift_ops.errors import NoDataError, UsageError
from ringrift_ops.games.records import GameRecord
from ringrift_ops.parity.compare import Divergence
from ringrift_ops.parity.node import EngineError, EngineProcess, replay_request
from ringrift_ops.rules.boards import board_named
from ringrift_ops.rules.game import Game
from ringrift_ops.rules.move_json import PHASES, move_type_of
from ringrift_ops.rules.notation import short_key
from ringrift_ops.settings.names import config_named
from ringrift_ops.store import atomic_write

FORMAT: Final = "ringrift state bundle 1"
_SIDES: Final = {"python": "Python", "typescript": "TypeScript"}
_LISTED: Final = 12
"""Moves or cells shown of a longer list."""


class NotABundleError(UsageError):
    """A file that is not a state bundle."""


class MissingBundleError(NoDataError):
    """No such file."""


@dataclass(frozen=True, slots=True)
class Side:
    """One engine around move m: state strings and sorted legal lists before and after it; None where it has none."""

    before: str | None
    after: str | None
    legal_before: tuple[str, ...] | None
    legal_after: tuple[str, ...] | None
    error: str | None = None


def python_side(rules: Game, record: GameRecord, move: int) -> Side:
    """What the Python engine sees around a move, as far as it can play the record."""
    state = rules.initial_state(record.swap_rule)
    for number, key in enumerate(record.moves[: move + 1]):
        legal = rules.legal_moves(state)
        keys = rules.keys(state, legal)
        if number == move:
            break
        if key not in keys:
            return Side(None, None, None, None, f"move {number} ({key}) is not legal in Python")
        state = rules.apply_unchecked(state, int(legal[keys.index(key)]))
    before, listed = rules.state_string(state), _sorted(keys)
    if record.moves[move] not in keys:
        return Side(before, None, listed, None)
    state = rules.apply_unchecked(state, int(legal[keys.index(record.moves[move])]))
    return Side(before, rules.state_string(state), listed, _sorted(rules.keys(state, rules.legal_moves(state))))


def _sorted(keys: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted(short_key(key) for key in keys))


def typescript_side(engine: EngineProcess, record: GameRecord, moves: Sequence[str], move: int, start: str) -> Side:
    """What the TypeScript engine sees around a move.

    ``moves`` are the record's JSON texts, ``start`` the state string of the empty board, which has no step.
    """
    row = config_named(record.config)

    def replayed(count: int) -> dict[str, Any]:
        return engine.ask(
            replay_request(
                record.game_id,
                row.board,
                row.players,
                tuple(moves[:count]),
                swap_rule=record.swap_rule,
                detail="full",
            )
        )

    error = None
    try:
        answer = replayed(move + 1)
    except EngineError as failure:
        error = str(failure)
        try:
            answer = replayed(move)
        except EngineError:
            return Side(None, None, None, None, error)
    steps = answer["steps"]
    final = tuple(answer["final"]["l"].split())
    if len(steps) < move:
        return Side(None, None, None, None, f"move {len(steps)} is not legal in TypeScript")
    before = steps[move - 1]["s"] if move else start
    if len(steps) == move:
        return Side(before, None, final, None, error)
    return Side(before, steps[move]["s"], tuple(steps[move]["l"].split()), final)


def bundle_path(folder: Path, database: Path, game_id: str, move: int) -> Path:
    """``{dbstem}__{game}__k{K}.state_bundle.json`` with K = move + 1."""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", game_id)
    return folder / f"{database.stem}__{name}__k{move + 1}.state_bundle.json"


def bundle_of(
    database: Path, record: GameRecord, divergence: Divergence, python: Side, typescript: Side
) -> dict[str, Any]:
    """The bundle as a JSON object."""
    k = divergence.move + 1
    sides = {"python": python, "typescript": typescript}
    states = {
        name: {
            str(number): state_json(record.config, text, record.game_id)
            for number, text in ((k - 1, side.before), (k, side.after))
            if text is not None
        }
        for name, side in sides.items()
    }
    return {
        "format": FORMAT,
        "db_path": str(database),
        "game_id": record.game_id,
        "config": record.config,
        "diverged_at": k,
        "mismatch_kinds": list(divergence.kinds),
        "mismatch_context": "recording" if divergence.kinds[0].startswith("recorded") else "post_move",
        "message": divergence.message,
        "move": {
            "index": divergence.move,
            "key": record.moves[divergence.move],
            "player": record.seats[divergence.move],
        },
        "total_moves_python": len(record.moves),
        "total_moves_ts": len(record.moves),
        "view_mode": "post_move",
        "ts_k_values": [k - 1, k],
        "python_states": states["python"],
        "ts_states": states["typescript"],
        "state_strings": {name: {str(k - 1): side.before, str(k): side.after} for name, side in sides.items()},
        "legal_moves": {
            name: {str(k - 1): side.legal_before, str(k): side.legal_after} for name, side in sides.items()
        },
        "engine_errors": {name: side.error for name, side in sides.items() if side.error},
    }


def write_bundle(path: Path, bundle: Mapping[str, Any]) -> Path:
    """Write a bundle whole; raises WriteError."""
    return atomic_write(path, json.dumps(bundle, indent=1, default=list).encode() + b"\n")


def read_bundle(path: Path) -> dict[str, Any]:
    """The bundle in a file. Raises NotABundleError, MissingBundleError."""
    try:
        bundle = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise MissingBundleError(f"there is no file {path}; bundles end in .state_bundle.json") from error
    except (OSError, ValueError, RecursionError) as error:
        raise NotABundleError(f"{path} is not a state bundle: {error}") from error
    if not isinstance(bundle, dict) or bundle.get("format") != FORMAT:
        raise NotABundleError(f"{path} is not a state bundle of this platform (format {FORMAT!r})")
    return bundle


# ---- a state string as RingRift's JSON ------------------------------------------------------------------------


def state_json(config: str, text: str, game_id: str) -> dict[str, Any]:
    """A state string (RULES.md Appendix A) under the names of RingRift's serialised states."""
    row = config_named(config)
    board = board_named(row.board)
    player, phase, status, must, chain, debt, memory, hands, eliminated, territory, lps, swap, stacks, markers, gone = (
        text.split(";")
    )
    hand, out, spaces = ([int(n) for n in field[1:].split("/")] for field in (hands, eliminated, territory))
    cells = {name: _cells(field, board.is_hex) for name, field in (("s", stacks), ("k", markers), ("z", gone))}
    return {
        "gameId": game_id,
        "board": {
            "type": row.board,
            "size": board.size,
            "stacks": {key: _stack(rings) for key, rings in cells["s"].items()},
            "markers": {key: {"player": int(owner)} for key, owner in cells["k"].items()},
            "collapsedSpaces": {key: int(owner) for key, owner in cells["z"].items()},
        },
        "players": [
            {"playerNumber": seat, "ringsInHand": hand[i], "eliminatedRings": out[i], "territorySpaces": spaces[i]}
            for i, seat in enumerate(range(1, row.players + 1))
        ],
        "currentPlayer": int(player[1:]),
        "currentPhase": PHASES[phase],
        "gameStatus": "active" if status == "A" else "completed",
        "winner": None if status == "A" else int(status[1:]),
        "victoryThreshold": board.victory_rings(row.players),
        "territoryVictoryThreshold": board.territory_minimum(row.players),
        "totalRingsEliminated": sum(out),
        "totalRingsInPlay": board.rings_per_player * row.players,
        "mustMoveFromStackKey": must[1:],
        "chainCapturePosition": chain[1:],
        "pendingElimination": debt[1:],
        "turnMemory": memory[1:],
        "lastPlayerStanding": lps[1:],
        "pieRule": swap[1:],
    }


def _cells(field: str, is_hex: bool) -> dict[str, str]:
    cells = {}
    for entry in field[1:].split():
        cell, what = entry.split(":")
        x, y = (int(n) for n in cell.split(","))
        cells[f"{x},{y},{-x - y}" if is_hex else cell] = what
    return cells


def _stack(rings: str) -> dict[str, Any]:
    cap = len(rings) - len(rings.rstrip(rings[-1]))
    return {
        "rings": [int(owner) for owner in rings],
        "stackHeight": len(rings),
        "capHeight": cap,
        "controllingPlayer": int(rings[-1]),
    }


# ---- in words -------------------------------------------------------------------------------------------------


def describe_bundle(bundle: Mapping[str, Any]) -> str:
    """Where two engines parted, in words: legal moves that only one lists, fields in which the states differ."""
    k = int(bundle["diverged_at"])
    move = bundle["move"]
    played = f"{move_type_of(move['key'])} {move['key']}"
    lines = [
        f"{Path(bundle['db_path']).name}, game {bundle['game_id']} ({bundle['config']})",
        f"diverged at move {move['index']} of {bundle['total_moves_python']}: seat {move['player']} {played}",
        f"kinds: {', '.join(bundle['mismatch_kinds'])}",
        f"       {bundle['message']}",
    ]
    lines += [f"{_SIDES[name]}: {error}" for name, error in bundle["engine_errors"].items()]
    for number, when in ((k - 1, "before"), (k, "after")):
        lines += ["", f"{when} the move (k = {number})"]
        lines += _describe_lists(bundle["legal_moves"], str(number))
        lines += _describe_states(bundle["python_states"].get(str(number)), bundle["ts_states"].get(str(number)))
    return "\n".join(lines)


def _describe_lists(lists: Mapping[str, Mapping[str, list[str] | None]], number: str) -> list[str]:
    python, typescript = (lists[name][number] for name in _SIDES)
    if python is None or typescript is None:
        known = [
            f"{label} lists {len(lists[name][number] or [])}" for name, label in _SIDES.items() if lists[name][number]
        ]
        return [f"  legal moves: only {known[0]}"] if known else []
    if sorted(python) == sorted(typescript):
        return [f"  legal moves: the same {len(python)}"]
    lines = [f"  legal moves: {len(python)} in Python, {len(typescript)} in TypeScript"]
    for label, own, other in (("Python", python, typescript), ("TypeScript", typescript, python)):
        extra = sorted(set(own) - set(other))
        if extra:
            lines.append(f"    only {label} lists {_shortened([f'{move_type_of(key)} {key}' for key in extra])}")
        twice = sorted({key for key in own if own.count(key) > other.count(key)} - set(extra))
        if twice:
            lines.append(f"    {label} lists more than once {_shortened(twice)}")
    return lines


def _describe_states(python: Mapping[str, Any] | None, typescript: Mapping[str, Any] | None) -> list[str]:
    if python is None or typescript is None:
        have = (
            "neither engine has one"
            if python is None and typescript is None
            else ("only TypeScript has one" if python is None else "only Python has one")
        )
        return [f"  state: {have}"]
    differences = list(_differences(python, typescript))
    return [f"  {line}" for line in differences] or ["  state: the same in every field"]


def _differences(python: Mapping[str, Any], typescript: Mapping[str, Any]) -> list[str]:
    lines = []
    for field, mine in python.items():
        if field not in ("board", "players") and mine != typescript.get(field):
            lines.append(f"{field}: {mine} in Python, {typescript.get(field)} in TypeScript")
    for mine, theirs in zip(python["players"], typescript["players"], strict=True):
        lines += [
            f"seat {mine['playerNumber']} {field}: {mine[field]} in Python, {theirs[field]} in TypeScript"
            for field in ("ringsInHand", "eliminatedRings", "territorySpaces")
            if mine[field] != theirs[field]
        ]
    for field, name in (("stacks", "stacks"), ("markers", "markers"), ("collapsedSpaces", "collapsed cells")):
        lines += _cell_differences(name, python["board"][field], typescript["board"][field])
    return lines


def _cell_differences(name: str, mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    lines = []
    for label, own, other in (("Python", mine, theirs), ("TypeScript", theirs, mine)):
        extra = [f"{cell} ({_content(own[cell])})" for cell in own if cell not in other]
        if extra:
            lines.append(f"{name} only in {label}: {_shortened(extra)}")
    changed = [
        f"{cell} ({_content(mine[cell])} in Python, {_content(theirs[cell])} in TypeScript)"
        for cell in mine
        if cell in theirs and mine[cell] != theirs[cell]
    ]
    if changed:
        lines.append(f"{name} that differ: {_shortened(changed)}")
    return lines


def _content(value: Any) -> str:
    if isinstance(value, dict):
        return "rings " + "".join(map(str, value["rings"])) if "rings" in value else f"seat {value['player']}"
    return f"seat {value}"


def _shortened(items: Sequence[str]) -> str:
    shown = ", ".join(items[:_LISTED])
    return shown if len(items) <= _LISTED else f"{shown} and {len(items) - _LISTED} more"
