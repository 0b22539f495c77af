"""Datasets by their names in the ledger (R73). No dataset is opened."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

from ringrift_ops.errors import NoDataError, UsageError
from ringrift_ops.home import Home
from ringrift_ops.ledger import Artifact, Ledger
from ringrift_ops.settings import config_named
from ringrift_ops.settings.names import nearest

DatasetStatus = Literal["ready", "missing", "backed_out"]


class UnknownStatusError(UsageError):
    """Not a status that a dataset can have."""


class NotADatasetError(NoDataError):
    """A sha256 names something, but no dataset."""


@dataclass(frozen=True)
class DatasetRow:
    """A dataset. ``status``: ready; missing (its file is not on this machine); backed_out (nothing trains on it)."""

    id: str
    config: str
    status: DatasetStatus
    samples: int
    bytes: int
    path: str
    generation: int | None
    created_at: datetime


@dataclass(frozen=True)
class Datasets:
    """A page of them. ``total``: on record for this config and state of back-out."""

    datasets: list[DatasetRow]
    total: int
    next_offset: int | None


@dataclass(frozen=True)
class DatasetDetail:
    """A dataset, what the ledger keeps of it, what it was made from, and the nets trained on it."""

    dataset: DatasetRow
    meta: dict[str, Any]
    games: list[str]
    nets: list[str]


def dataset_status(name: str) -> DatasetStatus:
    """Return the status of that name; raises :class:`UnknownStatusError`."""
    known: dict[str, DatasetStatus] = {one: one for one in get_args(DatasetStatus)}
    if name not in known:
        raise UnknownStatusError(f"unknown status {name!r}; {nearest(name, known)}")
    return known[name]


def datasets(
    home: Home,
    ledger: Ledger,
    *,
    status: DatasetStatus | None = None,
    config: str | None = None,
    limit: int,
    offset: int = 0,
) -> Datasets:
    """Return a page of the datasets, newest first; raises ``UnknownConfigError``.

    With the status ready or missing a page may hold fewer than ``limit``: whether a file is there is asked by page.
    """
    key = None if config is None else config_named(config).key
    backed_out = None if status is None else status == "backed_out"
    total, found = ledger.artifact_page("dataset", config=key, backed_out=backed_out, limit=limit, offset=offset)
    bad = ledger.poisoned([one.sha for one in found])
    rows = [_row(home, one, backed_out=one.sha in bad) for one in found]
    more = offset + len(found) < total
    return Datasets([one for one in rows if status in (None, one.status)], total, offset + limit if more else None)


def dataset(home: Home, ledger: Ledger, name: str) -> DatasetDetail:
    """Return one dataset by its sha256 or its beginning; raises ``UnknownArtifactError``, :class:`NotADatasetError`."""
    found = ledger.artifact_named(name)
    if found.kind != "dataset":
        raise NotADatasetError(f"{found.sha[:12]} is {found.kind} of {found.config}, no dataset")
    lineage = ledger.lineage(found.sha)
    return DatasetDetail(
        dataset=_row(home, found, backed_out=bool(ledger.poisoned([found.sha]))),
        meta=found.meta,
        games=[one.artifact.sha for one in lineage.ancestors if one.artifact.kind == "games" and one.depth == 1],
        nets=[one.artifact.sha for one in lineage.descendants if one.artifact.kind == "weights" and one.depth == 1],
    )


def _row(home: Home, one: Artifact, *, backed_out: bool) -> DatasetRow:
    path = home.resolve(one.path)
    status: DatasetStatus = "backed_out" if backed_out else "ready" if path.is_file() else "missing"
    return DatasetRow(
        id=one.sha,
        config=one.config,
        status=status,
        samples=int(one.meta["samples"]),
        bytes=one.bytes,
        path=home.relative(path),
        generation=one.generation,
        created_at=one.created_at,
    )
