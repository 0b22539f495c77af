"""Measures for `make bench`: how long Celery takes from the end of a task to the start of the next."""

from __future__ import annotations

import json
from itertools import pairwise

from ringrift_ops.errors import ExitCode
from tests.bench.hops import CHAIN, dag_text, run_chain
from tests.production.stack import stack, until


def main(chains: int) -> int:
    """Print ``{"waits": seconds, "firsts": seconds}`` as the last line."""
    waits: list[float] = []
    firsts: list[float] = []
    with stack({"RINGRIFT_PROFILE": "tiny"}, "{}", {"bench_chain.py": dag_text(CHAIN, {})}) as made:
        made.build()
        made.up()
        made.wait_healthy(made.long_lived)
        api = made.api
        until("the chain is known", 300, lambda: api.has_dag(CHAIN))
        api.unpause(CHAIN)
        for run in range(chains + 1):
            tasks = run_chain(api, CHAIN)
            if run:  # the first chain meets processes that have not worked yet
                firsts.append((tasks[0]["start"] - tasks[0]["run"]).total_seconds())
                waits += [(after["start"] - before["end"]).total_seconds() for before, after in pairwise(tasks)]
    print(json.dumps({"waits": waits, "firsts": firsts}))
    return int(ExitCode.DONE)
