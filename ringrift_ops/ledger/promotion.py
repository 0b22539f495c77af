"""The canonical pointer of each config, moved by compare-and-swap only; and deliveries."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ringrift_ops.errors import UsageError
from ringrift_ops.ledger import artifacts, evaluations, events, leases, poison, schema
from ringrift_ops.ledger.engine import Connected, utc_now
from ringrift_ops.ledger.errors import (
    ArtifactConflictError,
    CanonicalMovedError,
    NeverInForceError,
    NoEvidenceForPromotionError,
    PoisonedArtifactError,
)
from ringrift_ops.ledger.events import EventType
from ringrift_ops.ledger.leases import MissingReasonError, generation_lease
from ringrift_ops.ledger.records import (
    BACK,
    Canonical,
    DeliveryRow,
    Evaluation,
    Promotion,
    PromotionKind,
    Waiver,
)
from ringrift_ops.settings.names import config_named
from ringrift_ops.settings.tables import LEASES
from ringrift_ops.stages.specs import Sha256, Verdict


class WaiverTooLongError(UsageError):
    """A waiver that would outlive what the table allows."""


def find(connection: Connection, config: str) -> Canonical | None:
    """Return the canonical of a config, None before its first promotion."""
    row = connection.execute(sa.select(schema.canonical).where(schema.canonical.c.config == config)).first()
    return None if row is None else Canonical(**row._asdict())


class Promotions(Connected):
    """Moving and reading the canonical pointers."""

    def canonical(self, config: str) -> Canonical | None:
        """Return the net in force for a config, None before the first promotion."""
        with self._reading() as connection:
            return find(connection, config_named(config).key)

    def compare_and_swap_canonical(
        self,
        config: str,
        expected: Sha256 | None,
        new: Sha256,
        token: int,
        *,
        generation: int | None,
        reason: str,
        actor: str,
        evaluation: int | None = None,
        kind: PromotionKind = "promote",
        now: datetime | None = None,
    ) -> Promotion:
        """Make ``new`` the canonical of ``config`` if it still is ``expected``; return the promotion.

        ``token`` is that of the config's generation lease, also outside a generation. Kind
        ``promote`` needs an evaluation that says PASS about ``new`` against ``expected``; the other
        kinds need a reason, and the ways back (``rollback``, ``back_out``) a net that was in force
        before. Pointer, promotion row and MODEL_PROMOTED are one transaction. The same move of the
        same generation again returns the promotion it made. Raises :class:`StaleTokenError`,
        :class:`CanonicalMovedError`, :class:`NoEvidenceForPromotionError`, :class:`NeverInForceError`,
        :class:`PoisonedArtifactError`, :class:`UnknownArtifactError`, :class:`ArtifactConflictError`,
        :class:`MissingReasonError`.
        """
        key, moment = config_named(config).key, now or utc_now()
        with self._writing() as connection:
            if generation is not None and (made := _made_before(connection, key, generation, new, kind)):
                return made
            leases.check(connection, generation_lease(key), token)
            leases.check_effect(connection, key, generation, token)
            _refuse_unfit(connection, key, new)
            if kind in BACK:
                _refuse_never_in_force(connection, key, new)
            before = find(connection, key)
            if (before.sha if before else None) != expected:
                raise CanonicalMovedError(
                    f"{key}: canonical is {before.sha if before else 'none'}, not {expected or 'none'} as expected; "
                    "nothing was moved; evaluate against the one in force"
                )
            if not reason.strip():
                raise MissingReasonError(f"{key}: moving the canonical net needs a reason")
            rests_on = None if evaluation is None else evaluations.find(connection, evaluation)
            if kind == "promote":
                _require_evidence(key, new, expected, rests_on)
                _refuse_rolled_back(connection, key, new, rests_on)
            values: dict[str, Any] = {
                "config": key, "kind": kind, "sha": new, "previous": expected, "generation": generation,
                "token": token, "evaluation": evaluation,
                "gate_version": rests_on.gate_version if rests_on else None,
                "counts": rests_on.opponents if rests_on else [],
                "reason": reason, "actor": actor, "created_at": moment,
            }  # fmt: skip
            table = schema.promotions
            number = connection.execute(sa.insert(table).values(**values).returning(table.c.id)).scalar_one()
            _point(connection, Canonical(key, new, expected, number, token, moment), first=before is None)
            events.record(
                connection, EventType.MODEL_PROMOTED, key, generation,
                {"promotion": number, "kind": kind, "sha": new, "previous": expected, "reason": reason, "actor": actor},
                moment,
            )  # fmt: skip
            return Promotion(id=number, **values)

    def check_way_back(self, config: str, sha: Sha256) -> None:
        """Raise what keeps a config from going back to a net; what the move itself would be refused for.

        That is :class:`NeverInForceError`, :class:`PoisonedArtifactError`, :class:`ArtifactConflictError` or
        :class:`UnknownArtifactError`.
        """
        key = config_named(config).key
        with self._reading() as connection:
            _refuse_unfit(connection, key, sha)
            _refuse_never_in_force(connection, key, sha)

    def promotions(self, config: str | None = None, *, limit: int | None = None) -> list[Promotion]:
        """Return the moves of the canonical pointers, newest first."""
        table = schema.promotions
        query = sa.select(table).order_by(table.c.id.desc())
        if config is not None:
            query = query.where(table.c.config == config)
        if limit is not None:
            query = query.limit(limit)
        with self._reading() as connection:
            return [Promotion(**row._asdict()) for row in connection.execute(query)]

    def promotion_kinds(self, until: datetime | None = None) -> list[tuple[str, PromotionKind]]:
        """Return (config, kind) of every move of a canonical pointer up to that moment, oldest first."""
        table = schema.promotions
        query = sa.select(table.c.config, table.c.kind).order_by(table.c.id)
        if until is not None:
            query = query.where(table.c.created_at <= until)
        with self._reading() as connection:
            return [(row.config, row.kind) for row in connection.execute(query)]

    # --- deliveries --------------------------------------------------------------------------------

    def record_delivery(
        self,
        sha: Sha256,
        destination: str,
        path: str,
        *,
        verified: bool,
        error: str | None,
        generation: int | None,
        token: int,
        state: str | None = None,
        now: datetime | None = None,
    ) -> DeliveryRow:
        """Record one net at one destination and return the row; a verified delivery stays verified.

        ``state``: else verified or failed. A net of the same config that was verified there before is stale then.
        Raises :class:`UnknownArtifactError`, :class:`StaleTokenError`.
        """
        table, moment = schema.deliveries, now or utc_now()
        where = (table.c.sha == sha, table.c.destination == destination)
        with self._writing() as connection:
            row = connection.execute(sa.select(table).where(*where)).first()
            how = state or ("verified" if verified else "failed")
            if row is not None and row.verified and verified and row.state == how:
                return DeliveryRow(**row._asdict())
            net = artifacts.required(connection, sha)
            leases.check_effect(connection, net.config, generation, token)
            delivery = DeliveryRow(sha, destination, path, verified, error, how, generation, moment)
            if row is None:
                connection.execute(sa.insert(table).values(vars(delivery)))
            else:
                connection.execute(sa.update(table).where(*where).values(vars(delivery)))
            if how == "verified":
                _older_are_stale(connection, net.config, sha, destination)
            if how == "copying":
                return delivery
            events.record(
                connection, EventType.MODEL_DISTRIBUTED, net.config, generation,
                {"weights": sha, "destination": destination, "path": path, "verified": verified, "error": error},
                moment,
            )  # fmt: skip
            return delivery

    def deliveries(self, sha: Sha256) -> list[DeliveryRow]:
        """Return where a net was delivered to, by destination."""
        table = schema.deliveries
        with self._reading() as connection:
            rows = connection.execute(sa.select(table).where(table.c.sha == sha).order_by(table.c.destination))
            return [DeliveryRow(**row._asdict()) for row in rows]

    # --- waivers -----------------------------------------------------------------------------------

    def record_waiver(
        self,
        kind: str,
        *,
        reason: str,
        actor: str,
        config: str | None = None,
        seconds: float = LEASES.waiver_seconds,
        now: datetime | None = None,
    ) -> Waiver:
        """Record an exception that expires, and return it.

        Raises :class:`MissingReasonError`, :class:`WaiverTooLongError`.
        """
        if not reason.strip():
            raise MissingReasonError(f"a waiver of {kind} needs a reason; say why")
        if seconds > LEASES.waiver_seconds:
            raise WaiverTooLongError(f"a waiver lives {LEASES.waiver_seconds} s at most, not {seconds:g} s; repeat it")
        moment, table = now or utc_now(), schema.waivers
        values: dict[str, Any] = {
            "kind": kind, "config": config, "reason": reason, "actor": actor,
            "created_at": moment, "expires_at": moment + timedelta(seconds=seconds),
        }  # fmt: skip
        with self._writing() as connection:
            number = connection.execute(sa.insert(table).values(**values).returning(table.c.id)).scalar_one()
        return Waiver(id=number, **values)

    def waivers(
        self, kind: str | None = None, *, config: str | None = None, now: datetime | None = None
    ) -> list[Waiver]:
        """Return the waivers in force (for ``config``: also those for every config), newest first."""
        table = schema.waivers
        query = sa.select(table).where(table.c.expires_at > (now or utc_now())).order_by(table.c.id.desc())
        if kind is not None:
            query = query.where(table.c.kind == kind)
        if config is not None:
            query = query.where(sa.or_(table.c.config == config, table.c.config.is_(None)))
        with self._reading() as connection:
            return [Waiver(**row._asdict()) for row in connection.execute(query)]


def _older_are_stale(connection: Connection, config: str, sha: Sha256, destination: str) -> None:
    table, nets = schema.deliveries, schema.artifacts
    others = sa.select(nets.c.sha).where(nets.c.config == config, nets.c.sha != sha)
    connection.execute(
        sa.update(table)
        .where(table.c.destination == destination, table.c.sha.in_(others), table.c.state == "verified")
        .values(state="stale")
    )


def evidence(opponents: Sequence[dict[str, Any]]) -> str:
    """Return the counts of an evaluation in one line, for messages and events."""
    return ", ".join(f"{one['opponent']} {one['wins']}/{one['games']}" for one in opponents)


def _made_before(
    connection: Connection, config: str, generation: int, new: Sha256, kind: PromotionKind
) -> Promotion | None:
    table = schema.promotions
    row = connection.execute(
        sa.select(table).where(
            table.c.config == config, table.c.generation == generation, table.c.sha == new, table.c.kind == kind
        )
    ).first()
    return None if row is None else Promotion(**row._asdict())


def _refuse_unfit(connection: Connection, config: str, new: Sha256) -> None:
    """Let only weights of that config pass that were not backed out."""
    artifact = artifacts.required(connection, new)
    if artifact.kind != "weights" or artifact.config != config:
        raise ArtifactConflictError(f"{new} is {artifact.kind} of {artifact.config}, not weights of {config}")
    if bad := poison.find(connection, [new]).get(new):
        raise PoisonedArtifactError(
            f"{config}: {new} was backed out by {bad.actor}: {bad.reason} (found in {bad.root[:12]}); train anew"
        )


def _refuse_never_in_force(connection: Connection, config: str, new: Sha256) -> None:
    """The way back is no way around the evidence: it leads only to a net that was in force (R56)."""
    table, now = schema.promotions, find(connection, config)
    moves = sa.select(table.c.sha).where(table.c.config == config).order_by(table.c.id.desc())
    nets = list(dict.fromkeys(connection.scalars(moves)))
    if new in nets:
        return
    bad = poison.find(connection, nets)
    others = [net[:12] for net in nets if net not in bad and (now is None or net != now.sha)]
    raise NeverInForceError(
        f"{config}: {new[:12]} was never in force, so there is no going back to it; those that were, newest first: "
        f"{', '.join(others) or 'no other net'}; a net gets into force by its gauntlet: "
        f"`ringrift promote --config {config} --model {new[:12]} --gauntlet`"
    )


def _require_evidence(config: str, new: Sha256, expected: Sha256 | None, found: Evaluation | None) -> None:
    if found is None:
        raise NoEvidenceForPromotionError(f"{config}: {new} has no evaluation on record; run its gauntlet first")
    if found.candidate != new or found.config != config:
        raise NoEvidenceForPromotionError(f"{config}: evaluation {found.id} is about {found.candidate}, not {new}")
    if found.verdict is not Verdict.PASS:
        raise NoEvidenceForPromotionError(f"{config}: {new} was judged {found.verdict}: {found.reason}")
    if found.previous != expected:
        raise NoEvidenceForPromotionError(
            f"{config}: {new} was measured against {found.previous or 'no net'}, the one in force is "
            f"{expected or 'none'}; run its gauntlet again"
        )


def _refuse_rolled_back(connection: Connection, config: str, new: Sha256, found: Evaluation | None) -> None:
    """A net that was taken back is not promoted again by evidence from before (R56)."""
    table = schema.promotions
    row = connection.execute(
        sa.select(table)
        .where(table.c.config == config, table.c.previous == new, table.c.kind.in_(BACK))
        .order_by(table.c.id.desc())
    ).first()
    if row is not None and found is not None and found.created_at <= row.created_at:
        raise NoEvidenceForPromotionError(
            f"{config}: {new} was taken back by {row.actor} ({row.reason}) after that evaluation; "
            "run its gauntlet again"
        )


def _point(connection: Connection, canonical: Canonical, *, first: bool) -> None:
    table = schema.canonical
    if first:
        connection.execute(sa.insert(table).values(vars(canonical)))
    else:
        connection.execute(sa.update(table).where(table.c.config == canonical.config).values(vars(canonical)))
