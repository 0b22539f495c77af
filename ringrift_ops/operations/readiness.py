"""Whether a config may train: games enough, whoever made them, and no cooldown."""

from __future__ import annotations

from datetime import UTC, datetime

from ringrift_ops.ledger import EventType, Ledger
from ringrift_ops.operations.idle import cooldown_until
from ringrift_ops.settings import ProfileRow


def enough_games(ledger: Ledger, config: str, row: ProfileRow, *, fresh: bool) -> dict[str, int] | None:
    """Return {"rows", "new_rows"} when the config has games enough to train on, else None.

    Enough is the window's minimum; with ``fresh`` there must also be rows that no training has seen, and the config's
    last training must be as long ago as the profile's cooldown says.
    """
    rows, new = ledger.usable_rows(config), ledger.new_rows(config)
    if rows < row.window_minimum_rows:
        return None
    if fresh and (new == 0 or cools_until(ledger, config, row) is not None):
        return None
    return {"rows": rows, "new_rows": new}


def cools_until(ledger: Ledger, config: str, row: ProfileRow) -> datetime | None:
    """Return the end of the cooldown that runs since the config's last training; None when none runs."""
    last = ledger.events(types=[EventType.TRAINING_COMPLETED], config=config, limit=1)
    until = cooldown_until(last[-1].at if last else None, row)
    return until if until is not None and until > datetime.now(UTC) else None
