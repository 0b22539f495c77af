"""Whether a config has games enough to train on, whoever made them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ringrift_ops.ledger import EventType, Ledger
from ringrift_ops.settings import ProfileRow


def enough_games(ledger: Ledger, config: str, row: ProfileRow, *, fresh: bool) -> dict[str, int] | None:
    """Return {"rows", "new_rows"} when the config has games enough to train on, else None.

    Enough is the window's minimum; with ``fresh`` there must also be rows that no training has seen, and the config's
    last training must be as long ago as the profile's cooldown says.
    """
    rows, new = ledger.usable_rows(config), ledger.new_rows(config)
    if rows < row.window_minimum_rows:
        return None
    if fresh and (new == 0 or _cooling(ledger, config, row.cooldown_seconds)):
        return None
    return {"rows": rows, "new_rows": new}


def _cooling(ledger: Ledger, config: str, seconds: float) -> bool:
    last = ledger.events(types=[EventType.TRAINING_COMPLETED], config=config, limit=1)
    return bool(last) and datetime.now(UTC) - last[-1].at < timedelta(seconds=seconds)
