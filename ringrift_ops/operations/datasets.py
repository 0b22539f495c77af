"""What is in a dataset, in numbers, and whether to train on it (R36). Memory grows with eight bytes per sample."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ringrift_ops.errors import NoDataError
from ringrift_ops.home import Home
from ringrift_ops.ledger import Ledger
from ringrift_ops.network.dataset import (
    SCAN,
    TRAINING,
    DamagedDatasetError,
    Dataset,
    EmptyDatasetError,
    ForeignDatasetError,
    MissingDatasetError,
    open_dataset,
)
from ringrift_ops.settings import CONFIGS, DATA

Array = npt.NDArray[Any]

_HASH_SEED = 0x52494E47


class UnfitDatasetsError(NoDataError):
    """Newest datasets of configs are not to be trained on."""


@dataclass(frozen=True)
class Issue:
    """Something that is wrong with a dataset. ``blocking``: nothing should be trained on it."""

    check: str
    message: str
    fix: str
    blocking: bool


@dataclass(frozen=True)
class DataReport:
    """What a validation found. ``statistics``: counts, shares (0..1), plies; ``drift`` is in it when compared."""

    path: Path
    config: str
    valid: bool
    issues: list[Issue]
    statistics: dict[str, Any]


def validate_dataset(path: Path, config: str, previous: Path | None = None) -> DataReport:
    """Look at everything in a dataset: exists, readable, format, corruption, quantity, labels, outliers, duplicates.

    With ``previous`` also its drift against that one. Never raises for what is wrong with a file; that is an issue, and
    what is wrong with ``previous`` blocks nothing.
    """
    again = f"`ringrift export --use-discovery --config {config}{'' if _in_store(path) else f' --output {path}'}`"
    if not path.is_file():
        return _only(path, config, Issue("exists", f"there is no dataset {path}", again, blocking=True))
    if not os.access(path, os.R_OK):
        fix = f"`chmod u+r {path}`"
        return _only(path, config, Issue("readable", f"{path} may not be read by this user", fix, blocking=True))
    try:
        dataset = open_dataset(path, config)
    except ForeignDatasetError as error:
        return _only(path, config, Issue("format", str(error), again, blocking=True))
    except DamagedDatasetError as error:
        return _only(path, config, Issue("corruption", str(error), again, blocking=True))
    except EmptyDatasetError as error:
        return _only(path, config, Issue("quantity", str(error), again, blocking=True))
    statistics = _statistics(dataset)
    issues = _issues(dataset, statistics, again)
    if previous is not None and previous.is_file():
        try:
            before = open_dataset(previous, config)
        except (MissingDatasetError, ForeignDatasetError, DamagedDatasetError, EmptyDatasetError) as error:
            words = f"drift is not known, because the dataset before this one cannot be used: {error}"
            issues.append(Issue("drift", words, "nothing: the next one is compared with this one", blocking=False))
        else:
            statistics["drift"] = drift = _drift(before, dataset)
            for name, index in drift.items():
                if index > DATA.drift:
                    words = f"drift of {name} is {index:.2f} against {previous.name} (more than {DATA.drift:g})"
                    issues.append(Issue("drift", words, "look at what played the games", blocking=False))
    return DataReport(path, config, not any(one.blocking for one in issues), issues, statistics)


def validate_newest(home: Home, ledger: Ledger) -> dict[str, DataReport]:
    """Return the report of every config's newest dataset, compared with the one before it."""
    found = {}
    for config in CONFIGS:
        known = ledger.artifacts(config=config, kind="dataset", clean=True)[:2]
        if known:
            newest, *before = (home.resolve(one.path) for one in known)
            found[config] = validate_dataset(newest, config, before[0] if before else None)
    return found


def require_valid(reports: Mapping[str, DataReport]) -> None:
    """Raise :class:`UnfitDatasetsError` when any of them is unfit, every one with its first issue and its fix."""
    unfit = {config: one.issues[0] for config, one in reports.items() if not one.valid}
    if unfit:
        words = "; ".join(f"{config}: {one.check}: {one.message}; {one.fix}" for config, one in unfit.items())
        raise UnfitDatasetsError(f"{len(unfit)} of {len(reports)} datasets are unfit: {words}")


def _in_store(path: Path) -> bool:
    """Whether a file lies in a store, where names are hashes and nobody writes but the store itself."""
    return path.parent.parent.name == "store" and len(path.parent.name) == 2


def _only(path: Path, config: str, issue: Issue) -> DataReport:
    return DataReport(path, config, valid=False, issues=[issue], statistics={})


def _statistics(dataset: Dataset) -> dict[str, Any]:
    n, mover = len(dataset), np.asarray(dataset.values[:, 0])
    split, plies = np.asarray(dataset.split), np.asarray(dataset.ply)
    games = int(dataset.game[-1]) + 1
    duplicates = n - len(np.unique(_row_hashes(dataset.features)))
    cap = CONFIGS[dataset.config].max_moves
    return {
        "bytes": dataset.path.stat().st_size,
        "samples": n,
        "games": games,
        "training_samples": int(np.count_nonzero(split == TRAINING)),
        "validation_samples": int(np.count_nonzero(split != TRAINING)),
        "policy_samples": dataset.policy_samples,
        "samples_per_game": n / games,
        "longest_ply": int(plies.max()),
        "mover": {
            "won": float(np.mean(mover > 0)),
            "drawn": float(np.mean(mover == 0)),
            "lost": float(np.mean(mover < 0)),
            "mean": float(mover.mean()),
        },
        "outliers": int(np.count_nonzero(plies > cap)),
        "duplicates": duplicates,
        "duplicate_share": duplicates / n,
    }


def _row_hashes(rows: Array) -> npt.NDArray[np.uint64]:
    """Return 64 bits per row: a random linear hash, which two different rows share with probability 2^-64."""
    factors = np.random.default_rng(_HASH_SEED).integers(1, 2**63, rows.shape[1], dtype=np.uint64) * np.uint64(2)
    factors += np.uint64(1)
    hashes = np.empty(len(rows), dtype=np.uint64)
    for start in range(0, len(rows), SCAN):
        part = np.asarray(rows[start : start + SCAN]).astype(np.uint64)
        hashes[start : start + SCAN] = (part * factors).sum(axis=1, dtype=np.uint64)
    return hashes


def _issues(dataset: Dataset, found: dict[str, Any], again: str) -> list[Issue]:
    issues = []
    more = f"`ringrift selfplay --config {dataset.config}`, `ringrift parity --config {dataset.config}`, then {again}"
    if found["games"] < DATA.least_games:
        words = f"{found['games']} games, at least {DATA.least_games} are needed"
        issues.append(Issue("quantity", words, more, blocking=True))
    for split in ("training", "validation"):
        if found[f"{split}_samples"] == 0:
            issues.append(Issue("quantity", f"no sample is for {split}", again, blocking=True))
    mean = found["mover"]["mean"]
    if abs(mean) > DATA.mover_mean:
        words = f"the mover's mean value is {mean:+.2f}, beyond {DATA.mover_mean:g}: one outcome is missing"
        issues.append(Issue("label distribution", words, more, blocking=True))
    if found["outliers"]:
        cap = CONFIGS[dataset.config].max_moves
        words = f"{found['outliers']} samples lie beyond ply {cap}, the longest that a game may have"
        issues.append(Issue("outliers", words, again, blocking=True))
    if found["duplicate_share"] > DATA.duplicate_share:
        words = (
            f"{found['duplicate_share']:.0%} of the positions are in it before (more than {DATA.duplicate_share:.0%})"
        )
        issues.append(Issue("duplicates", words, "play with more opening plies or noise", blocking=False))
    return issues


def _drift(before: Dataset, now: Dataset) -> dict[str, float]:
    """Return the population stability index of plies and outcomes: 0 the same, above 0.25 another population."""
    earlier, later = np.asarray(before.ply), np.asarray(now.ply)
    edges = np.unique(np.quantile(earlier, np.linspace(0.0, 1.0, DATA.drift_bins + 1)[1:-1]))
    plies = _stability(np.digitize(earlier, edges), np.digitize(later, edges), len(edges) + 1)
    lost_drawn_won, now_so = (np.sign(np.asarray(one.values[:, 0])).astype(int) + 1 for one in (before, now))
    return {"plies": plies, "outcomes": _stability(lost_drawn_won, now_so, 3)}


def _stability(before: Array, now: Array, bins: int) -> float:
    shares = [(np.bincount(one, minlength=bins) + 1.0) / (len(one) + bins) for one in (before, now)]
    return float(np.sum((shares[1] - shares[0]) * np.log(shares[1] / shares[0])))
