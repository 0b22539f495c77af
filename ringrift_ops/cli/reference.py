"""Writes the pages of all commands and of all causes, Markdown (``make docs``)."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from ringrift_ops.cli.groups import GROUPS
from ringrift_ops.store import atomic_write

_HEAD = """# Commands

Written by `make docs` from the commands themselves; a test compares the two.

Every verb answers with an exit code: 0 done, 1 a gate said no, 2 wrong usage, 3 no data, 4 infrastructure. With
`--json` the answer, or the error, is one JSON document on stdout. `ringrift --install-completion` teaches your shell
the commands.
"""


def reference() -> str:
    """Return the page, Markdown: the verbs by group, each linked from the top."""
    from ringrift_ops.cli.app import app

    whole = typer.main.get_command(app)
    verbs: dict[str, Any] = whole.commands  # type: ignore[attr-defined]  # it is a group
    sections = {verb: list(_commands(f"ringrift {verb}", command)) for verb, command in verbs.items()}
    index = [
        f"- {group}: " + ", ".join(f"[{verb}](#{sections[verb][0][0].replace(' ', '-')})" for verb in names)
        for group, names in GROUPS.items()
    ]
    parts = [_HEAD, *index, "", _section("ringrift", whole)]
    for group, names in GROUPS.items():
        parts += [f"## {group}", "", *(_section(*one) for verb in names for one in sections[verb])]
    return "\n".join(parts)


def _commands(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Yield every command that does something or takes options, with the words that call it, in the help's order."""
    children = getattr(command, "commands", {})
    acts = not children or getattr(command, "invoke_without_command", False)
    if acts or any(not _generic(one) for one in command.params):
        yield path, command
    for name, child in children.items():
        yield from _commands(f"{path} {name}", child)


def _section(path: str, command: Any) -> str:
    context = typer.Context(command, info_name=path)
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and not _generic(one)]
    words = [path, *(word for one in arguments for word in one.get_usage_pieces(context))]
    lines = [f"### `{path}`", "", inspect.cleandoc(command.help or ""), ""]
    lines += [f"    {' '.join([*words, '[OPTIONS]'] if options else words)}", ""]
    if arguments or options:
        lines += ["| option | meaning |", "|---|---|"]
        lines += [f"| `{one.get_usage_pieces(context)[0]}` | {_meaning(one)} |" for one in arguments]
        lines += [f"| {_names(one, context)} | {_meaning(one)} |" for one in options]
        lines.append("")
    return "\n".join(lines)


def _generic(option: Any) -> bool:
    return bool({"--help", "--install-completion", "--show-completion"} & set(option.opts))


def _names(option: Any, context: typer.Context) -> str:
    kind = "" if option.is_flag else f" {option.display_type(context).replace('list[', '').replace(']', '').lower()}"
    return ", ".join(f"`{name}{kind}`" for name in [*option.opts, *option.secondary_opts])


def _meaning(option: Any) -> str:
    text = (getattr(option, "help", None) or "").replace("|", "\\|")
    default = option.default
    shown = "" if default is None or default is False or callable(default) else f" Default: `{default}`."
    return f"{text}{shown}"


def main() -> int:
    """Entry point of ``python -m ringrift_ops.cli.reference COMMANDS CAUSES``."""
    from ringrift_ops.operations.diagnosing import page

    if len(sys.argv) != 3:
        print("usage: python -m ringrift_ops.cli.reference COMMANDS CAUSES", file=sys.stderr)
        return 2
    atomic_write(Path(sys.argv[1]), reference().encode())
    atomic_write(Path(sys.argv[2]), page().encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
