"""The command ``ringrift``: every verb a thin door to one function. Exit codes: ``ringrift_ops/errors.py``."""

from __future__ import annotations


def main(arguments: list[str] | None = None) -> int:
    """Run one command line (default: this process's) and return its exit code.

    An error that a user may see is one line on stderr, or with ``--json`` one object on stdout. Anything else is a
    defect of ours: its traceback is shown and the code is 4, never 1, which would read as a gate's no.
    """
    from ringrift_ops.cli.door import run

    return run(arguments)
