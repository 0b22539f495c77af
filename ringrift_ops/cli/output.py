"""How answers look: tables and lines for people, one JSON document for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel


def plain(value: Any) -> Any:
    """Return ``value`` as JSON knows it: models, dataclasses, times and paths turned into dicts and text."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, Path) else value


def print_json(value: Any) -> None:
    """Print one JSON document to stdout."""
    print(json.dumps(plain(value), indent=2))


def print_fields(fields: Mapping[str, Any]) -> None:
    """Print names and values in two columns; lists and objects one indented line per entry."""
    shown = plain(fields)
    width = max((len(name) for name in shown), default=0)
    for name, value in shown.items():
        if isinstance(value, list) and value:
            print(f"{name}")
            for one in value:
                print("  " + (_in_line(one) if isinstance(one, dict) else text_of(one)))
        elif isinstance(value, dict) and value:
            print(f"{name.ljust(width)}  {_in_line(value)}")
        else:
            print(f"{name.ljust(width)}  {text_of(value)}")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print rows under a heading, columns aligned; numbers to the right."""
    cells = [[text_of(value) for value in row] for row in plain(rows)]
    right = [all(isinstance(row[i], int | float) for row in rows) and bool(rows) for i in range(len(columns))]
    widths = [max([len(name), *(len(row[i]) for row in cells)]) for i, name in enumerate(columns)]
    for row in [list(columns), *cells]:
        print(
            "  ".join(
                cell.rjust(width) if to_right else cell.ljust(width)
                for cell, width, to_right in zip(row, widths, right, strict=True)
            ).rstrip()
        )


def text_of(value: Any) -> str:
    """Return one value as people read it: no float noise, ``-`` for nothing."""
    if value is None or value in ("", [], {}):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "".join(one if one.isprintable() or one == "\n" else ascii(one)[1:-1] for one in str(value))


def _in_line(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {text_of(value)}" for name, value in fields.items())
