"""``python -m ringrift_ops.platform run | up | stop``: what the Makefile calls. Other verbs are the platform's own."""

from __future__ import annotations

import json
import os
import sys

from ringrift_ops.errors import ExitCode, RingRiftError, UsageError
from ringrift_ops.home import Home


class UnknownVerbError(UsageError):
    """Not a verb of this command."""


def main(arguments: list[str]) -> int:
    """Run one verb and return its exit code."""
    verb, *rest = arguments or [""]
    try:
        if verb in ("run", "up", "stop"):
            from ringrift_ops.platform import commands

            return int(getattr(commands, verb)())
        return _own(verb, rest)
    except RingRiftError as error:
        sys.stdout.flush()
        sys.stderr.write(f"{error}\n")
        return int(error.exit_code)


def _own(verb: str, rest: list[str]) -> int:
    from ringrift_ops.platform import component

    if verb == "keep":
        from ringrift_ops.platform.environment import Ports
        from ringrift_ops.platform.keeper import Keeper

        profile, web, execution, edge, slots = rest
        ports = Ports(int(web), int(execution), int(edge) or None)
        Keeper(Home.find(), ports, json.loads(slots), profile).keep()
    elif verb == "prepare":
        component.prepare(json.loads(rest[0]))
    elif verb == "component":
        component.run(rest[0], rest[1:])
    else:
        raise UnknownVerbError(f"unknown verb {verb!r}; valid: run, up, stop")
    return int(ExitCode.DONE)


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main(sys.argv[1:]))
