"""``python -m tests.bench [PART...] [--publish]``: measure, print, keep.

Without parts all of them, in order. ``--publish`` writes docs/bench.json and docs/bench.md (only the rows of the parts
that were measured are replaced); without it they go to .ringrift/bench/. ``rules`` ends with 1 below its floor.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from ringrift_ops.errors import RingRiftError
from tests.bench.figures import DOCS, PARTS, Row, publish, read_rows, table
from tests.bench.machine import BenchError, scratch
from tests.bench.scale import SMALL, Scale

Measure = Callable[[Scale], list[Row]]

TABLE: Final = "table"


def measure_of(part: str, home: Path | None) -> Measure:
    """The function that measures a part; what it needs is imported only now."""
    if part in ("rules", "peers", "compile"):
        from tests.bench import rules

        return {"rules": rules.playouts, "peers": rules.peers, "compile": rules.compiling}[part]
    if part == "speeds":
        from tests.bench.speeds import speeds

        return speeds
    if part == "memory":
        from tests.bench.memory import memory

        return memory
    if part == "dags":
        from tests.bench.dagfiles import dags

        return dags
    if part == "standing":
        from tests.bench.standing import standing

        return standing
    if part == "hops":
        from tests.bench.hops import hops

        return hops
    if part == "hosts":
        from tests.bench.hosts import hosts

        return hosts
    if part == "celery":
        from tests.bench.celery import celery

        return celery
    from tests.bench import first

    return first.first if home is None else lambda _: first.recorded(home)


def main(arguments: list[str]) -> int:
    """Measure the parts asked for and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, TABLE, []], help="which parts; none: all of them")
    parser.add_argument("--publish", action="store_true", help="write docs/bench.json and docs/bench.md")
    parser.add_argument("--small", action="store_true", help="tiny sizes: shows that it works, measures nothing")
    parser.add_argument("--games", type=int, metavar="N", help="the many games of the memory measurements (10,000)")
    parser.add_argument("--home", type=Path, help="for `first`: read it from the home of an earlier `make run`")
    asked = parser.parse_args(arguments)
    folder = DOCS if asked.publish else scratch()
    if asked.small and asked.publish:
        parser.error("--small measures nothing that could be published")
    scale = SMALL if asked.small else Scale()
    if asked.games is not None:
        scale = replace(scale, many_games=asked.games)
    too_slow: list[str] = []
    failed: list[str] = []
    for part in [one for one in PARTS if one in asked.parts or not asked.parts]:
        print(f"== {PARTS[part]}", flush=True)
        began = time.monotonic()
        try:
            rows = measure_of(part, asked.home)(scale)
        except (BenchError, RingRiftError, OSError, subprocess.SubprocessError) as error:
            # One part that cannot be measured costs the others nothing.
            print(f"!! {part} could not be measured: {type(error).__name__}: {error}", file=sys.stderr)
            failed.append(part)
            continue
        publish(rows, [part], folder)
        if part == "rules":
            from tests.bench.rules import too_slow as below

            too_slow = below(rows)
        print(f"   ({time.monotonic() - began:.0f} s)", flush=True)
    if TABLE in asked.parts:
        print(table(read_rows(folder / "bench.json")))
    print(f"== written: {folder / 'bench.json'} and bench.md", flush=True)
    for line in too_slow:
        print(f"!! TOO SLOW: {line}", file=sys.stderr)
    if failed:
        print(f"!! not measured: {', '.join(failed)}", file=sys.stderr)
    return 1 if too_slow or failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
