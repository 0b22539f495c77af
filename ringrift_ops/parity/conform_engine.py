"""The TypeScript engine as an engine of ``rules/conform.py``: recorded games and positions, one exchange each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from ringrift_ops.parity.node import EngineProcess, EngineRefusedError, Request
from ringrift_ops.rules.conform import PositionAnswer, Step, Trace
from ringrift_ops.rules.game import StateStringError


@dataclass
class TypescriptEngine:
    """Use as a context manager. Every answer may raise the errors of ``parity/node.py``."""

    process: EngineProcess = field(default_factory=EngineProcess)
    name: str = "typescript"

    def __enter__(self) -> Self:
        self.process.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.close()

    def trace(self, name: str, board: str, players: int, swap_rule: bool, init: str, moves: Sequence[str]) -> Trace:
        """Replay a game from its initial state string."""
        head = {"op": "replay", "board": board, "players": players, "init": init, "detail": "full"}
        answer = self._ask(name, head | {"swapRule": swap_rule}, moves)
        steps = [Step(step["p"], step["ph"], step["l"], step["s"], step["eh"], step["ev"]) for step in answer["steps"]]
        return Trace(steps, answer["result"], answer["final"]["l"] if "illegal" in answer else None)

    def position(self, name: str, board: str, players: int, text: str, moves: Sequence[str]) -> PositionAnswer:
        """The legal list of a state string and what each move leads to."""
        head = {"op": "position", "board": board, "players": players, "s": text}
        try:
            answer = self._ask(name, head, moves)
        except EngineRefusedError as error:
            if error.reason != "illegal_move":
                raise
            legal = self._ask(name, head, [])["l"]
            return PositionAnswer(legal, [self._after(name, head, move) for move in moves])
        return PositionAnswer(answer["l"], [state for _, state in answer["after"]])

    def _after(self, name: str, head: Mapping[str, Any], move: str) -> str | None:
        try:
            return str(self._ask(name, head, [move])["after"][0][1])
        except EngineRefusedError as error:
            if error.reason != "illegal_move":
                raise
            return None

    def evaluation(
        self, board: str, players: int, text: str, seat: int, marker_order: Sequence[str]
    ) -> Mapping[str, float] | None:
        """None: this engine knows the rules only."""
        return None

    def _ask(self, name: str, head: Mapping[str, Any], moves: Sequence[str]) -> dict[str, Any]:
        """One answer. Raises StateStringError for a state that the engine cannot read."""
        try:
            return self.process.ask(Request(name, head, tuple(json.dumps(move) for move in moves)))
        except EngineRefusedError as error:
            if error.reason == "bad_state":
                raise StateStringError(error.what) from error
            raise
