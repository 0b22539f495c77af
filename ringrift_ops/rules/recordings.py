"""Reading RingRift's recorded games, positions and evaluations: JSON lines, plain or gzipped.

Every line is one record of one of three shapes, told apart by its keys; the formats are those of
RULES.md Appendix A. What is wrong with a file is said with its line.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ringrift_ops.errors import NoDataError, UsageError

GZIP_MAGIC: Final = b"\x1f\x8b"
SAMPLE: Final = Path(__file__).with_name("sample.jsonl.gz")
"""A few games of RingRift's own engine that come with this package."""
BOARDS: Final = ("square8", "square19", "hex8", "hexagonal")


class RecordingMissingError(NoDataError):
    """The file does not exist or cannot be read."""


class RecordingBrokenError(UsageError):
    """The file is not a recording: not JSON, cut short, or a field missing or of the wrong kind."""


@dataclass(frozen=True)
class Line:
    """One record. ``shape`` is game, position or evaluation; ``where`` names file and line."""

    path: Path
    number: int
    shape: str
    record: Mapping[str, Any]

    @property
    def where(self) -> str:
        return f"{self.path}:{self.number}"

    @property
    def name(self) -> str:
        """The game's id, or the shape and line."""
        return str(self.record.get("id") or f"{self.shape} {self.number}")

    @property
    def board(self) -> str:
        return str(self.record["bt" if self.shape == "evaluation" else "board"])

    @property
    def players(self) -> int:
        return int(self.record["n" if self.shape == "evaluation" else "players"])


_SHAPES: Final = (("trace", "game"), ("after", "position"), ("ev", "evaluation"))
_FIELDS: Final[Mapping[str, Mapping[str, type | tuple[type, ...]]]] = {
    "game": {"board": str, "players": int, "init": str, "result": dict, "trace": list},
    "position": {"board": str, "players": int, "s": str, "l": str, "after": list},
    "evaluation": {"bt": str, "n": int, "init": str, "mk": list, "p": int, "ev": dict},
}
_RESULT_FIELDS: Final[Mapping[str, type | tuple[type, ...]]] = {"winner": int, "reason": str}
_STEP_FIELDS: Final[Mapping[str, type | tuple[type, ...]]] = {"p": int, "ph": str, "m": str}


def read_recordings(path: Path) -> Iterator[Line]:
    """The records of a file, streamed. Raises RecordingMissingError, RecordingBrokenError."""
    number = 0
    try:
        with path.open("rb") as file, _text(file) as text:
            for number, line in enumerate(text, 1):
                if line.strip():
                    yield _parse(path, number, line)
    except OSError as error:
        if isinstance(error, gzip.BadGzipFile):
            raise RecordingBrokenError(f"{path}:{number + 1}: damaged gzip ({error}); fetch the file again") from error
        raise RecordingMissingError(f"{path}: {error.strerror or error}; name a .jsonl or .jsonl.gz file") from error
    except (EOFError, zlib.error) as error:
        what = "the gzip stream is cut short" if isinstance(error, EOFError) else f"damaged gzip ({error})"
        raise RecordingBrokenError(f"{path}:{number + 1}: {what}; fetch the file again") from error
    except UnicodeDecodeError as error:
        raise RecordingBrokenError(f"{path}:{number + 1}: not text ({error.reason}); is this a recording?") from error


def _text(file: io.BufferedReader) -> io.TextIOWrapper:
    zipped = file.peek(2)[:2] == GZIP_MAGIC
    return io.TextIOWrapper(gzip.GzipFile(fileobj=file) if zipped else file, encoding="utf-8")


def _parse(path: Path, number: int, line: str) -> Line:
    where = f"{path}:{number}"
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RecordingBrokenError(f"{where}: not JSON ({error})") from error
    if not isinstance(record, dict):
        raise RecordingBrokenError(f"{where}: a record is a JSON object, this is a {type(record).__name__}")
    shape = next((shape for key, shape in _SHAPES if key in record), None)
    if shape is None:
        raise RecordingBrokenError(f"{where}: neither a game (trace) nor a position (after) nor an evaluation (ev)")
    _demand(where, record, _FIELDS[shape])
    found = Line(path, number, shape, record)
    if found.board not in BOARDS or found.players not in (2, 3, 4):
        raise RecordingBrokenError(f"{where}: no config is called {found.board} with {found.players} players")
    if shape == "game":
        _demand_steps(where, record["trace"])
        _demand(f"{where}: result", record["result"], _RESULT_FIELDS)
    if shape == "position" and not all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(one, str) for one in pair)
        for pair in record["after"]
    ):
        raise RecordingBrokenError(f"{where}: after is a list of [move, state string]")
    if shape == "evaluation" and not (
        all(isinstance(value, int | float) for value in record["ev"].values())
        and 1 <= record["p"] <= found.players
        and all(isinstance(key, str) for key in record["mk"])
    ):
        raise RecordingBrokenError(f"{where}: ev holds numbers, mk marker keys, p a seat")
    return found


def _demand(where: str, record: Mapping[str, Any], fields: Mapping[str, type | tuple[type, ...]]) -> None:
    for name, kind in fields.items():
        if name not in record:
            raise RecordingBrokenError(f"{where}: the field {name!r} is missing")
        if not isinstance(record[name], kind) or isinstance(record[name], bool):
            raise RecordingBrokenError(f"{where}: the field {name!r} is {record[name]!r:.40}")


def _demand_steps(where: str, trace: list[Any]) -> None:
    if not trace:
        raise RecordingBrokenError(f"{where}: a game without a step")
    for i, step in enumerate(trace):
        if not isinstance(step, dict):
            raise RecordingBrokenError(f"{where}: step {i} is not an object")
        _demand(f"{where}: step {i}", step, _STEP_FIELDS)
        if "l" not in step and not ("n" in step and "lh" in step):
            raise RecordingBrokenError(f"{where}: step {i} has neither l nor n and lh")
        if "s" not in step and "sh" not in step:
            raise RecordingBrokenError(f"{where}: step {i} has neither s nor sh")
