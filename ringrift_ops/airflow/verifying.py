"""Whether a stage made what it was asked to make, and what lies on the disk is what it says (F21)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ringrift_ops.errors import GateError, InfrastructureError, NoDataError
from ringrift_ops.home import Home
from ringrift_ops.ledger import StageRun
from ringrift_ops.settings import CHECKS
from ringrift_ops.stages.specs import (
    DistributeResult,
    ExportResult,
    Frozen,
    GauntletResult,
    ParityResult,
    SelfplayResult,
    TrainResult,
    Verdict,
)
from ringrift_ops.store import sha256_file


class WrongResultError(GateError):
    """What a stage says it made is not what it was asked, or not what lies on the disk (F21)."""


class ParityFailedError(GateError):
    """The two rule engines disagree on games of this generation."""


class NoEvidenceError(NoDataError):
    """The gauntlet measured nothing that a verdict could rest on."""


class UndeliveredError(InfrastructureError):
    """A promoted net did not arrive whole at every destination."""


def verify(home: Home, spec: Mapping[str, Any], result: Frozen, played: Sequence[StageRun]) -> None:
    """Raise unless ``result`` is what ``spec`` asked for; ``played``: the generation's finished self-play.

    Raises :class:`WrongResultError`, :class:`ParityFailedError`, :class:`NoEvidenceError`, :class:`UndeliveredError`.
    """
    match result:
        case SelfplayResult():
            _same("games", spec["games"], result.games)
        case ParityResult():
            own = [SelfplayResult.model_validate(run.result) for run in played]
            if own and spec["sample"] == 0:
                _same("games checked", sum(batch.games for batch in own), result.checked)
            if not result.passed:
                raise ParityFailedError(
                    f"the rule engines disagree on {result.failed} of {result.checked} games; "
                    f"see `ringrift parity diff {result.failures[0].bundle if result.failures else 'BUNDLE'}`"
                )
        case ExportResult():
            _same("whether there are samples", True, result.samples > 0)
        case TrainResult():
            _same("dataset", spec["dataset"], result.dataset)
            _same("parent", spec["parent"], result.parent)
            _same("whether it was trained on samples", True, result.samples > 0)
            _same("weights", result.weights, sha256_file(home.resolve(result.path)))
            _same("whether served = trained", True, result.served_difference <= CHECKS.served_tolerance)
        case GauntletResult():
            _same("candidate", spec["candidate"], result.candidate)
            if result.verdict is Verdict.NO_EVIDENCE:
                raise NoEvidenceError(f"{Verdict.NO_EVIDENCE.value}: {result.reason}")
        case DistributeResult():
            lost = [one for one in result.deliveries if one.lost]
            if lost:
                raise UndeliveredError(f"{len(lost)} of {len(result.deliveries)} deliveries failed: "
                                       f"{lost[0].destination}: {lost[0].error}")  # fmt: skip


def _same(what: str, asked: object, got: object) -> None:
    if asked != got:
        raise WrongResultError(f"{what}: asked {asked}, got {got}; the result is refused, see the job's log")
