"""Which config's tasks have a pool's slots first: the one with the larger curriculum weight when its run is made."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from airflow.task.priority_strategy import PriorityWeightStrategy

from ringrift_ops.errors import RingRiftError

if TYPE_CHECKING:
    from airflow.models.taskinstance import TaskInstance

KEPT_SECONDS = 5.0
"""The scheduler asks for every task of a run; it need not read the ledger for each."""

_known: tuple[float, dict[str, int]] = (float("-inf"), {})


class CurriculumPriority(PriorityWeightStrategy):
    """The priority of a config's tasks (R59). Asked by the scheduler, which a ledger that is away must not end."""

    def get_weight(self, ti: TaskInstance) -> int:
        global _known
        if time.monotonic() - _known[0] > KEPT_SECONDS:
            _known = (time.monotonic(), priorities())
        return _known[1].get(ti.dag_id, 1)


def priorities() -> dict[str, int]:
    """Return {config: priority}; empty while the ledger cannot be read, and every config is alike then."""
    from ringrift_ops.ledger import Ledger
    from ringrift_ops.stages.curriculum import priority, weights

    try:
        moves = Ledger.open().promotion_kinds()
    except RingRiftError:
        return {}
    return {config: priority(weight) for config, weight in weights(moves).items()}
