"""The initial state that RingRift's replay starts from, as its JSON (pipeline-facts 1.5)."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, Final

from ringrift_ops.errors import UsageError
from ringrift_ops.rules.boards import board_named
from ringrift_ops.settings.names import config_named

INITIAL_SECONDS: Final = 600
"""RingRift's training start state: a blitz clock of 600 s that nothing reads."""


class StartStateError(UsageError):
    """An initial state that is not the empty board of the game's config."""


def start_state(config: str, *, seed: int | None, swap_rule: bool, created_at: str) -> dict[str, Any]:
    """RingRift's training start state as a dict with every top-level field of its game state.

    The territory minimum stands in both fields: RingRift's TypeScript drops ``territoryVictoryMinimum`` and
    falls back on ``territoryVictoryThreshold``.
    """
    row = config_named(config)
    name, players = row.board, row.players
    board = board_named(name)
    rings = board.rings_per_player
    territory = board.territory_minimum(players)
    return {
        "id": "self-play",
        "boardType": name,
        "rngSeed": seed,
        "board": {
            "type": name,
            "size": board.size,
            "stacks": {},
            "markers": {},
            "collapsedSpaces": {},
            "eliminatedRings": {str(seat): 0 for seat in range(1, players + 1)},
            "formedLines": [],
            "territories": {},
        },
        "players": [
            {
                "id": f"p{seat}",
                "username": f"AI {seat}",
                "type": "ai",
                "playerNumber": seat,
                "isReady": True,
                "timeRemaining": INITIAL_SECONDS,
                "aiDifficulty": 5,
                "ringsInHand": rings,
                "eliminatedRings": 0,
                "territorySpaces": 0,
            }
            for seat in range(1, players + 1)
        ],
        "currentPhase": "ring_placement",
        "currentPlayer": 1,
        "moveHistory": [],
        "timeControl": {"initialTime": INITIAL_SECONDS, "increment": 0, "type": "blitz"},
        "spectators": [],
        "gameStatus": "active",
        "winner": None,
        "createdAt": created_at,
        "lastMoveAt": created_at,
        "isRated": False,
        "maxPlayers": players,
        "totalRingsInPlay": rings * players,
        "totalRingsEliminated": 0,
        "victoryThreshold": board.victory_rings(players),
        "territoryVictoryThreshold": territory,
        "territoryVictoryMinimum": territory,
        "chainCaptureState": None,
        "mustMoveFromStackKey": None,
        "zobristHash": None,
        "lpsRoundIndex": 0,
        "lpsCurrentRoundActorMask": {},
        "lpsExclusivePlayerForCompletedRound": None,
        "lpsCurrentRoundFirstPlayer": None,
        "lpsConsecutiveExclusiveRounds": 0,
        "lpsRoundsRequired": 3,
        "lpsConsecutiveExclusivePlayer": None,
        "rulesOptions": {"swapRuleEnabled": swap_rule} if players == 2 else None,
        "pendingLineRewardElimination": False,
    }


@lru_cache(maxsize=32)
def _template(config: str, swap_rule: bool) -> tuple[str, str, str]:
    text = json.dumps(start_state(config, seed=None, swap_rule=swap_rule, created_at="@"), separators=(",", ":"))
    head, tail = text.split('"rngSeed":null', 1)
    middle, end = tail.split('"createdAt":"@","lastMoveAt":"@"', 1)
    return head, middle, end


def start_state_json(config: str, *, seed: int | None, swap_rule: bool, created_at: str) -> str:
    """:func:`start_state` as compact JSON text, put together from a template."""
    head, middle, end = _template(config, swap_rule)
    clock = json.dumps(created_at)
    return f'{head}"rngSeed":{json.dumps(seed)}{middle}"createdAt":{clock},"lastMoveAt":{clock}{end}'


def swap_rule_of(text: str, config: str, where: str) -> bool:
    """Whether the pie rule is on in an initial state's JSON, after checking that it is this config's start.

    Raises :class:`StartStateError` for JSON that is none, another board, other thresholds than the rules', or a
    board that is not empty (RingRift's "mid_snapshot" games): such a game cannot be replayed from the start.
    """
    row = config_named(config)
    name, players = row.board, row.players
    board = board_named(name)
    try:
        state = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StartStateError(f"{where}: the initial state is not JSON ({error})") from error
    if not isinstance(state, dict) or not isinstance(state.get("board"), dict):
        raise StartStateError(f"{where}: the initial state is not a game state with a board")
    pieces = [part for part in ("stacks", "markers", "collapsedSpaces") if state["board"].get(part)]
    if pieces:
        raise StartStateError(f"{where}: the initial state already holds {', '.join(pieces)}; not an empty board")
    seats = state.get("players")
    wanted = {
        "boardType": (state.get("boardType", state["board"].get("type")), name),
        "players": (len(seats) if isinstance(seats, list) else None, players),
        "currentPlayer": (state.get("currentPlayer"), 1),
        "currentPhase": (state.get("currentPhase"), "ring_placement"),
        "victoryThreshold": (state.get("victoryThreshold"), board.victory_rings(players)),
    }
    for field, (found, expected) in wanted.items():
        if found != expected:
            raise StartStateError(f"{where}: {field} of the initial state is {found!r}, in {config} it is {expected!r}")
    options = state.get("rulesOptions")
    return bool(options.get("swapRuleEnabled")) if isinstance(options, dict) else False
