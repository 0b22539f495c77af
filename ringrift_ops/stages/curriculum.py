"""The curriculum: how the games of the configs move when nets are promoted (R59).

A config that is promoted learns well with what it has; the next games go rather to those that lag behind. A function
of the promotions on record alone, so the same generation is asked the same however often: no weight is stored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ringrift_ops.ledger import Generation, Ledger
from ringrift_ops.ledger.records import BACK
from ringrift_ops.settings import CONFIGS, CURRICULUM, CurriculumRules, Settings

UP, DOWN = ("promote", "forced"), BACK


def weights(moves: Sequence[tuple[str, str]], rules: CurriculumRules = CURRICULUM) -> dict[str, float]:
    """Return {config: weight} of all configs; 1 for those that have no net in force yet.

    ``rules.step`` to the power of the config's promotions among the newest ``rules.promotions`` of all (one taken back
    counts against), over the mean of all configs that have a net: their games are moved, not multiplied.
    ``moves``: (config, kind) of the canonical pointers, oldest first.
    """
    with_net = {config for config, _ in moves}
    count: Counter[str] = Counter()
    for config, kind in moves[-rules.promotions :]:
        count[config] += (kind in UP) - (kind in DOWN)
    raw = {config: rules.step ** max(0, count[config]) for config in with_net}
    mean = sum(raw.values()) / len(raw) if raw else 1.0
    bounded = {config: min(rules.most, max(rules.least, weight / mean)) for config, weight in raw.items()}
    return {config: bounded.get(config, 1.0) for config in CONFIGS}


def weight_of(ledger: Ledger, generation: Generation) -> float:
    """Return the weight of a generation's config when it was first granted its lease: it never changes after."""
    if generation.granted_at is None:
        return 1.0
    return weights(ledger.promotion_kinds(generation.granted_at))[generation.config]


def weighted(games: int, weight: float) -> int:
    """Return how many games a profile's number comes to; at least one."""
    return max(1, round(games * weight))


def priority(weight: float, rules: CurriculumRules = CURRICULUM) -> int:
    """Return the priority of a config's tasks where they compete for a pool's slots; 10 at weight 1."""
    return max(1, round(rules.priority * weight))


@dataclass(frozen=True)
class Share:
    """What a config's next generation gets. ``games``: with the net in force, None before there is one."""

    config: str
    weight: float
    priority: int
    promotions: int
    games: int | None


def shares(ledger: Ledger, settings: Settings) -> list[Share]:
    """Return what the curriculum gives every config now, in the table's order."""
    moves = ledger.promotion_kinds()
    found = weights(moves)
    count = Counter(config for config, kind in moves if kind in UP)
    return [
        Share(
            config=config,
            weight=weight,
            priority=priority(weight),
            promotions=count[config],
            games=weighted(settings.profile(config).games, weight) if count[config] else None,
        )
        for config, weight in found.items()
    ]
