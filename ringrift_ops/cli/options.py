"""Options that several verbs share, under the runbooks' names and our own."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import BaseModel, ValidationError

from ringrift_ops.errors import NoDataError, UsageError

SpecFile = Annotated[
    Path | None, typer.Option("--spec", help="Read everything from this JSON file; no other option may be given.")
]
ResultFile = Annotated[Path | None, typer.Option("--result", help="Write the result, or the error, to this file.")]
HeartbeatPath = Annotated[Path | None, typer.Option("--heartbeat", help="Append progress to this file, as JSON lines.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print the spec before beginning.")]


def _configs() -> list[str]:
    from ringrift_ops.settings import CONFIGS

    return list(CONFIGS)


def _profiles() -> list[str]:
    from ringrift_ops.settings import PROFILES

    return list(PROFILES)


def _boards() -> list[str]:
    return ["square8", "square19", "hex8", "hexagonal"]


Config = Annotated[
    str | None,
    typer.Option("--config", help="Config key, e.g. hex8_2p; or name board and players.", autocompletion=_configs),
]
Board = Annotated[
    str | None,
    typer.Option("--board-type", "--board", help="square8, square19, hex8 or hexagonal.", autocompletion=_boards),
]
Players = Annotated[int | None, typer.Option("--num-players", "--players", help="2, 3 or 4; 2 unless given.")]
Profile = Annotated[
    str | None,
    typer.Option("--profile", help="tiny, quick or standard; else the settings'.", autocompletion=_profiles),
]
Seed = Annotated[int | None, typer.Option("--seed", help="Of every random draw; a fresh one unless given.")]

_SEED_BITS = 63
_SPEC_DOORS = {"spec", "result", "heartbeat", "as_json"}


class OptionConflictError(UsageError):
    """Options that exclude each other, or one that needs another."""


class OptionValueError(UsageError):
    """An option's value is outside what the stage accepts."""


class MissingFileError(NoDataError):
    """A file that an option names does not exist."""


@dataclass(frozen=True)
class Doors:
    """How a stage is called and answers, whichever stage it is."""

    spec: Path | None
    result: Path | None
    heartbeat: Path | None
    as_json: bool
    verbose: bool = False


def config_of(config: str | None, board: str | None, players: int | None) -> str:
    """Return the config key that the options name; raises ``UnknownConfigError`` or :class:`OptionConflictError`."""
    from ringrift_ops.settings import config_key, config_named

    if config is not None:
        if board is not None or players is not None:
            raise OptionConflictError(
                "--config already says board and players; leave --board-type and --num-players out"
            )
        return config_named(config).key
    if board is None:
        raise OptionConflictError("which config? Give --config hex8_2p, or --board-type hex8 --num-players 2")
    return config_key(board, 2 if players is None else players)


def seed_of(seed: int | None) -> int:
    """Return the seed, a fresh one when none is given; raises :class:`OptionValueError`."""
    if seed is None:
        return secrets.randbits(_SEED_BITS)
    if not 0 <= seed < 1 << _SEED_BITS:
        raise OptionValueError(f"--seed {seed}: a number from 0 to 2^63 - 1 is needed")
    return seed


def existing(path: Path, option: str) -> Path:
    """Return the absolute path of an existing file; raises :class:`MissingFileError` naming the option."""
    if not path.exists():
        raise MissingFileError(f"{option} {path}: no such file; check the name")
    return path.absolute()


def sole_spec(context: typer.Context) -> None:
    """Make sure that ``--spec`` comes with no option that it already answers; raises :class:`OptionConflictError`."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if name not in _SPEC_DOORS and source is not None and source.name == "COMMANDLINE":
            option = name.replace("_", "-")
            raise OptionConflictError(f"--spec says everything; leave out --{option} or write it into the file")


Spec = TypeVar("Spec", bound=BaseModel)


def changed(spec: Spec, changes: Mapping[str, Any]) -> Spec:
    """Return ``spec`` with the options that were given (those not None); raises :class:`OptionValueError`.

    A nested mapping changes the fields of a nested model.
    """
    given = {
        name: {**getattr(spec, name).model_dump(), **_given(value)} if isinstance(value, Mapping) else value
        for name, value in _given(changes).items()
    }
    try:
        return type(spec).model_validate(spec.model_dump() | given)
    except ValidationError as error:
        raise OptionValueError(complaints(error)) from error


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def complaints(error: ValidationError) -> str:
    """Return every complaint of a validation in one line: field, reason, value."""
    return "; ".join(
        f"{'.'.join(str(part) for part in one['loc']) or 'it'}: {one['msg']} (given: {_short(one['input'])})"
        for one in error.errors(include_url=False)
    )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
