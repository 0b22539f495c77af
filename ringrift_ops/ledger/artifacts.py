"""Artifacts by hash, what they were made from, and the games that a training may use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, get_args

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ringrift_ops.errors import UsageError
from ringrift_ops.ledger import leases, poison, schema
from ringrift_ops.ledger.engine import Connected, utc_now
from ringrift_ops.ledger.errors import ArtifactConflictError, UnknownArtifactError
from ringrift_ops.ledger.records import Artifact, Descent, Kind, Lineage, Relative, WindowBatch
from ringrift_ops.settings.names import config_named
from ringrift_ops.stages.specs import Sha256

CHUNK = 500
"""Hashes per query; SQLite takes 32,766 variables, older servers fewer."""


class UnknownKindError(UsageError):
    """An artifact kind that does not exist, or one that lacks the numbers its kind needs."""


_NEEDED: dict[str, tuple[str, ...]] = {"games": ("games", "moves"), "dataset": ("samples",)}
"""Keys of ``meta`` that a kind cannot be without: windows and status count with them."""


def find(connection: Connection, sha: Sha256) -> Artifact | None:
    """Return an artifact, None when it was never recorded."""
    row = connection.execute(sa.select(schema.artifacts).where(schema.artifacts.c.sha == sha)).first()
    return None if row is None else Artifact(**row._asdict())


def required(connection: Connection, sha: Sha256) -> Artifact:
    """Return an artifact; raises :class:`UnknownArtifactError`."""
    found = find(connection, sha)
    if found is None:
        raise UnknownArtifactError(f"the ledger knows no artifact {sha}; record it before what is made from it")
    return found


class Artifacts(Connected):
    """Recording and finding what stages made."""

    def record_artifact(
        self,
        sha: Sha256,
        kind: Kind,
        path: str,
        size: int,
        config: str,
        generation: int | None,
        *,
        parents: Sequence[tuple[Sha256, str]],
        meta: Mapping[str, Any],
        token: int,
        now: datetime | None = None,
    ) -> Artifact:
        """Record an artifact with (sha, role) of all it was made from, and return it.

        The same artifact again is harmless: what was recorded first stays. ``meta`` of games needs
        ``games`` and ``moves``, of a dataset ``samples``. Raises :class:`UnknownArtifactError` for a
        parent that was never recorded, :class:`ArtifactConflictError` for a sha of another kind or
        config, :class:`StaleTokenError`.
        """
        if kind not in get_args(Kind):
            raise UnknownKindError(f"unknown artifact kind {kind!r}; valid: {', '.join(get_args(Kind))}")
        missing = [key for key in _NEEDED.get(kind, ()) if not isinstance(meta.get(key), int)]
        if missing:
            raise UnknownKindError(
                f"artifact {sha} of kind {kind} needs whole numbers for {', '.join(missing)} in meta"
            )
        row = config_named(config)
        with self._writing() as connection:
            found = find(connection, sha)
            if found is not None:
                if (found.kind, found.config) != (kind, row.key):
                    raise ArtifactConflictError(
                        f"{sha} is recorded as {found.kind} of {found.config} and cannot be {kind} of {config} too"
                    )
                return found
            leases.check_effect(connection, row.key, generation, token)
            for parent, _ in parents:
                required(connection, parent)
            artifact = Artifact(sha, kind, path, size, row.key, generation, dict(meta), now or utc_now())
            connection.execute(sa.insert(schema.artifacts).values(vars(artifact)))
            links = [{"child": sha, "parent": parent, "role": role} for parent, role in dict.fromkeys(parents)]
            if links:
                connection.execute(sa.insert(schema.artifact_parents), links)
            poison.inherit(connection, sha, [parent for parent, _ in parents])
            if artifact.kind == "weights":
                _mark_trained(connection, sha)
            return artifact

    def artifact(self, sha: Sha256) -> Artifact:
        """Return an artifact; raises :class:`UnknownArtifactError`."""
        with self._reading() as connection:
            return required(connection, sha)

    def artifact_named(self, start: str) -> Artifact:
        """Return the one artifact whose sha begins so; raises :class:`UnknownArtifactError`."""
        table = schema.artifacts
        with self._reading() as connection:
            rows = connection.execute(
                sa.select(table).where(table.c.sha.startswith(start, autoescape=True)).limit(2)
            ).all()
        if len(rows) != 1:
            what = "no artifact begins" if not rows else "more than one artifact begins"
            raise UnknownArtifactError(f"{what} with {start!r}; give more of its sha256")
        return Artifact(**rows[0]._asdict())

    def artifacts(
        self,
        *,
        config: str | None = None,
        kind: Kind | None = None,
        generation: int | None = None,
        clean: bool = False,
    ) -> list[Artifact]:
        """Return artifacts, newest first; with ``clean`` without those that were backed out."""
        table = schema.artifacts
        query = sa.select(table).order_by(table.c.created_at.desc(), table.c.sha)
        for column, value in ((table.c.config, config), (table.c.kind, kind), (table.c.generation, generation)):
            if value is not None:
                query = query.where(column == value)
        if clean:
            query = query.where(table.c.sha.not_in(sa.select(schema.poisoned.c.sha)))
        with self._reading() as connection:
            return [Artifact(**row._asdict()) for row in connection.execute(query)]

    def lineage(self, sha: Sha256) -> Lineage:
        """Return everything that an artifact was made from, down to its games, and all made from it.

        Raises :class:`UnknownArtifactError`.
        """
        links = schema.artifact_parents
        with self._reading() as connection:
            artifact = required(connection, sha)
            return Lineage(
                artifact=artifact,
                ancestors=_walk(connection, sha, links.c.child, links.c.parent),
                descendants=_walk(connection, sha, links.c.parent, links.c.child),
            )

    def descent(self, config: str) -> Descent:
        """Return what was made from what in a config, read by one query: for questions about many of its artifacts.

        Its artifacts are made from each other only; a parent of another config would have no parents here.
        """
        links, child = schema.artifact_parents, schema.artifacts
        query = (
            sa.select(links.c.child, links.c.parent)
            .join(child, child.c.sha == links.c.child)
            .where(child.c.config == config_named(config).key)
        )
        parents: dict[Sha256, list[Sha256]] = {}
        children: dict[Sha256, list[Sha256]] = {}
        with self._reading() as connection:
            for made, source in connection.execute(query):
                parents.setdefault(made, []).append(source)
                children.setdefault(source, []).append(made)
        return Descent(parents, children)

    # --- games that a training may use -------------------------------------------------------------

    def record_parity(
        self,
        batch: Sha256,
        report: Sha256,
        *,
        passed: bool,
        checked: int,
        failed: int,
        generation: int | None,
        token: int,
        now: datetime | None = None,
    ) -> None:
        """Record whether the second engine agreed on a batch; a later check replaces an earlier one.

        Raises :class:`UnknownArtifactError`, :class:`StaleTokenError`.
        """
        table = schema.parity_verdicts
        with self._writing() as connection:
            games = required(connection, batch)
            leases.check_effect(connection, games.config, generation, token)
            values = {
                "report": report, "passed": passed, "checked": checked, "failed": failed,
                "recorded_at": now or utc_now(), "config": games.config, "games": games.meta["games"] - failed,
                "rows": games.meta["moves"], "trained": _is_trained(connection, batch),
                "poisoned": bool(poison.find(connection, [batch])),
            }  # fmt: skip
            if connection.execute(sa.update(table).where(table.c.batch == batch).values(**values)).rowcount == 0:
                connection.execute(sa.insert(table).values(batch=batch, **values))

    def games_in_window(self, config: str, rows: int | None = None) -> list[WindowBatch]:
        """Return the batches of a config whose parity passed and that were not backed out, newest first.

        With ``rows``: only as many as hold the newest so many rows. ``ProfileRow.window`` says how
        many rows a training should see.
        """
        made, verdict = schema.artifacts, schema.parity_verdicts
        columns = (made.c.sha, made.c.path, verdict.c.games, verdict.c.rows, made.c.generation, made.c.created_at)
        query = (
            sa.select(*columns)
            .join(verdict, verdict.c.batch == made.c.sha)
            .where(made.c.config == config_named(config).key, made.c.kind == "games", verdict.c.passed)
            .where(verdict.c.poisoned.is_(False))
            .order_by(made.c.created_at.desc(), made.c.sha)
        )
        window: list[WindowBatch] = []
        seen = 0
        with self._reading() as connection:
            for row in connection.execute(query):
                if rows is not None and seen >= rows:
                    break
                window.append(WindowBatch(**row._asdict()))
                seen += window[-1].rows
        return window

    def usable_rows(self, config: str) -> int:
        """Return the rows of all batches whose parity passed: what a window is cut from."""
        return self._passed_rows(config)

    def new_rows(self, config: str) -> int:
        """Return the rows of passed batches that no trained dataset contains: what fills the train bucket."""
        return self._passed_rows(config, schema.parity_verdicts.c.trained.is_(False))

    def _passed_rows(self, config: str, *more: sa.ColumnElement[bool]) -> int:
        table = schema.parity_verdicts
        query = sa.select(sa.func.coalesce(sa.func.sum(table.c.rows), 0)).where(
            table.c.config == config_named(config).key, table.c.passed, table.c.poisoned.is_(False), *more
        )
        with self._reading() as connection:
            return int(connection.execute(query).scalar_one())


def _mark_trained(connection: Connection, net: Sha256) -> None:
    """Note that the batches of a net's datasets were trained on."""
    datasets = sa.select(schema.artifact_parents.c.parent).where(schema.artifact_parents.c.child == net)
    batches = sa.select(schema.artifact_parents.c.parent).where(schema.artifact_parents.c.child.in_(datasets))
    table = schema.parity_verdicts
    connection.execute(sa.update(table).where(table.c.batch.in_(batches)).values(trained=True))


def _is_trained(connection: Connection, batch: Sha256) -> bool:
    of_batch, of_dataset, net = schema.artifact_parents.alias(), schema.artifact_parents.alias(), schema.artifacts
    query = (
        sa.select(net.c.sha)
        .join(of_dataset, of_dataset.c.child == net.c.sha)
        .join(of_batch, of_batch.c.child == of_dataset.c.parent)
        .where(of_batch.c.parent == batch, net.c.kind == "weights")
        .limit(1)
    )
    return connection.execute(query).first() is not None


def _walk(connection: Connection, sha: Sha256, here: sa.Column[Any], there: sa.Column[Any]) -> list[Relative]:
    """Return all artifacts reached over the links from ``here`` to ``there``, breadth first, each once."""
    found: list[Relative] = []
    seen, level, depth = {sha}, [sha], 0
    while level:
        depth += 1
        steps: list[Relative] = []
        for start in range(0, len(level), CHUNK):
            query = (
                sa.select(schema.artifacts, schema.artifact_parents.c.role, here.label("via"))
                .join(schema.artifact_parents, there == schema.artifacts.c.sha)
                .where(here.in_(level[start : start + CHUNK]))
                .order_by(schema.artifacts.c.created_at.desc(), schema.artifacts.c.sha)
            )
            for row in connection.execute(query):
                fields = row._asdict()
                role, via = fields.pop("role"), fields.pop("via")
                if row.sha not in seen:
                    seen.add(row.sha)
                    steps.append(Relative(Artifact(**fields), role, via, depth))
        found += steps
        level = [step.artifact.sha for step in steps]
    return found
