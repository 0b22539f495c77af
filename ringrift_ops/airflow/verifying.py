"""What a stage made, brought here; whether it is what was asked, and lies on the disk as it says (F21)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from ringrift_ops.errors import GateError, InfrastructureError, NoDataError
from ringrift_ops.home import Home
from ringrift_ops.hosts.jobs import JobState, JobWithoutDataError
from ringrift_ops.ledger import StageRun
from ringrift_ops.settings import CHECKS
from ringrift_ops.stages.hosting import Hosting
from ringrift_ops.stages.specs import (
    RESULTS,
    SPECS,
    DistributeResult,
    ExportResult,
    Frozen,
    GauntletResult,
    ParityResult,
    SelfplayResult,
    Stage,
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


class LostJobError(InfrastructureError):
    """A job is gone and has left no result; submitted again, it resumes."""


def collected(
    hosting: Hosting, stage: Stage, host: str | None, job_id: str, token: int, noted: Mapping[str, Any] | None
) -> tuple[dict[str, Any], Frozen]:
    """Return (spec, result) of a job that is over, whose files are here and of which the ledger knows.

    ``noted``: what the ledger says the job was asked. A host's own word on that would let it choose where files go.

    Raises :class:`LostJobError`, :class:`NoEvidenceError`, :class:`WrongResultError`, and what the job ended with.
    """
    status = hosting.look(host, job_id)
    if status.state is JobState.DEAD:
        raise LostJobError(f"job {job_id} is gone: {status.reason}; submitted again, it resumes")
    hosting.keep_log(host, stage, status)
    jobs = hosting.jobs(host)
    try:
        found = jobs.collect(job_id)
    except JobWithoutDataError as error:
        if stage is Stage.GAUNTLET:
            raise NoEvidenceError(f"{Verdict.NO_EVIDENCE.value}: {error.said}") from error
        raise
    try:
        result = RESULTS[stage].model_validate(found)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise WrongResultError(f"job {job_id} left no result of a {stage.value}: {wrong}") from error
    spec = dict(noted) if host is not None and noted is not None else jobs.spec(job_id) or {}
    asked = SPECS[stage].model_validate(spec)
    hosting.keep_rate(host, asked, status)
    hosting.take(host, job_id, result, asked, token)
    return spec, result


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
