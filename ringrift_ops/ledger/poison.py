"""Artifacts that were found bad, with everything that was made from them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ringrift_ops.ledger import schema
from ringrift_ops.ledger.engine import Connected, utc_now
from ringrift_ops.ledger.records import Poison
from ringrift_ops.stages.specs import Sha256

_CHUNK = 500


def find(connection: Connection, shas: Sequence[Sha256]) -> dict[Sha256, Poison]:
    """Return those of ``shas`` that were backed out."""
    found: dict[Sha256, Poison] = {}
    for start in range(0, len(shas), _CHUNK):
        query = sa.select(schema.poisoned).where(schema.poisoned.c.sha.in_(shas[start : start + _CHUNK]))
        found |= {row.sha: Poison(**row._asdict()) for row in connection.execute(query)}
    return found


def inherit(connection: Connection, sha: Sha256, parents: Sequence[Sha256]) -> None:
    """Mark a new artifact that was made from a bad one."""
    for poison in find(connection, parents).values():
        connection.execute(sa.insert(schema.poisoned).values(vars(poison) | {"sha": sha}))
        return


class Poisoned(Connected):
    """Marking and asking."""

    def poison(
        self, shas: Sequence[Sha256], root: Sha256, *, reason: str, actor: str, now: datetime | None = None
    ) -> list[Sha256]:
        """Mark artifacts and return those that were not marked before; games among them leave every window."""
        moment, table = now or utc_now(), schema.parity_verdicts
        with self._writing() as connection:
            known = find(connection, shas)
            fresh = [sha for sha in shas if sha not in known]
            rows = [{"sha": sha, "root": root, "reason": reason, "actor": actor, "at": moment} for sha in fresh]
            if rows:
                connection.execute(sa.insert(schema.poisoned), rows)
            for start in range(0, len(shas), _CHUNK):
                wanted = table.c.batch.in_(shas[start : start + _CHUNK])
                connection.execute(sa.update(table).where(wanted).values(poisoned=True))
            return fresh

    def poisoned(self, shas: Sequence[Sha256]) -> dict[Sha256, Poison]:
        """Return those of ``shas`` that were backed out."""
        with self._reading() as connection:
            return find(connection, shas)
