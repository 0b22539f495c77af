"""Runs a command and prints its peak memory in bytes, and its exit code, as JSON to the file named first.

A process of its own, because Linux counts into a child's peak what its parent had in memory when it forked: this one
has next to nothing.
"""

import json
import os
import sys


def main(answer: str, command: list[str]) -> None:
    """Run, wait, tell."""
    child = os.spawnv(os.P_NOWAIT, command[0], command)
    _, status, used = os.wait4(child, 0)
    unit = 1 if sys.platform == "darwin" else 1024
    with open(answer, "w") as file:  # noqa: PTH123  pathlib costs memory here
        json.dump({"bytes": used.ru_maxrss * unit, "code": os.waitstatus_to_exitcode(status)}, file)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
