"""The gate that the settings tables ship, one per number of players."""

from collections.abc import Callable
from typing import Any

import pytest

from ringrift_ops.rating.gate import GateRules
from ringrift_ops.rating.simulate import shipped_rules


@pytest.fixture(scope="session")
def rules_for() -> Callable[..., GateRules]:
    """``rules_for(players, field=value, ...)``: the shipped rules with some fields changed."""

    def make(players: int = 2, profile: str = "standard", **changes: Any) -> GateRules:
        return GateRules.model_validate(shipped_rules(players, profile).model_dump() | changes)

    return make
