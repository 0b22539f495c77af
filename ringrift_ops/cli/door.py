"""The one place where errors become exit codes and lines on the terminal."""

from __future__ import annotations

import json
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TextIO

import typer

from ringrift_ops.errors import ExitCode, RingRiftError, SettingsWarning

INTERRUPTED = 130
_NO_MEMORY = "Out of memory; ask for fewer simulations, a smaller batch or fewer games, or free some memory and repeat"


def run(arguments: list[str] | None) -> int:
    """Run one command line; see :func:`ringrift_ops.cli.main`."""
    from ringrift_ops.cli.app import app

    words = sys.argv[1:] if arguments is None else arguments
    if arguments is None:
        sys.excepthook = _defect
    command = typer.main.get_command(app)
    try:
        with _warnings_told():
            code = command.main(args=words, prog_name="ringrift", standalone_mode=False)
    except RingRiftError as error:
        return _say(words, type(error).__name__, str(error), error.exit_code)
    except typer.TyperException as error:
        return _say(words, "UsageError", f"{error.format_message()} {_hint(error)}".rstrip(), ExitCode.WRONG_USAGE)
    except MemoryError:
        return _say(words, "OutOfMemoryError", _NO_MEMORY, ExitCode.INFRASTRUCTURE)
    except typer.Abort:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read us has seen enough
        return ExitCode.DONE
    return int(code) if isinstance(code, int) else ExitCode.DONE


@contextmanager
def _warnings_told() -> Iterator[None]:
    """Tell each warning of the settings once, as one line on stderr; others as Python does."""
    said: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("always", SettingsWarning)
        others = warnings.showwarning

        def tell(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if not issubclass(category, SettingsWarning):
                others(message, category, filename, lineno, file, line)
            elif str(message) not in said:
                said.add(str(message))
                print(f"ringrift: warning: {message}", file=sys.stderr)

        warnings.showwarning = tell
        yield


def _say(words: list[str], kind: str, message: str, code: ExitCode) -> int:
    if "--json" in words:
        print(json.dumps({"error": {"type": kind, "message": message, "exit_code": int(code)}}, indent=2))
    else:
        print(f"ringrift: {message}", file=sys.stderr)
    return int(code)


def _hint(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    return f"See `{context.command_path} --help`." if context is not None else ""


def _defect(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    traceback.print_exception(kind, error, trace)
    if issubclass(kind, KeyboardInterrupt):
        code = INTERRUPTED
    else:
        print(f"ringrift: a defect, please report it: {kind.__name__}: {error}", file=sys.stderr)
        code = int(ExitCode.INFRASTRUCTURE)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
