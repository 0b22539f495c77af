"""Runs one stage for a verb: spec in, progress out, result whole or an error in its place, exit code."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn

import typer
from pydantic import BaseModel, ValidationError

from ringrift_ops.cli.options import Doors, complaints, sole_spec
from ringrift_ops.cli.output import print_fields, print_json
from ringrift_ops.cli.progress import shown
from ringrift_ops.errors import ExitCode, NoDataError, RingRiftError, UsageError
from ringrift_ops.stages import specs
from ringrift_ops.stages.heartbeat import Heartbeat, HeartbeatFile, Report
from ringrift_ops.stages.specs import SPECS, Stage, StageSpec, Verdict
from ringrift_ops.store import atomic_write


class SpecFileError(UsageError):
    """``--spec`` names a file that is not this stage's spec."""


class NoSpecFileError(NoDataError):
    """``--spec`` names no file."""


def run_stage(context: typer.Context, stage: Stage, doors: Doors, spec_of: Callable[[], StageSpec]) -> NoReturn:
    """Run ``stage`` on the spec of ``--spec``, else on the one ``spec_of`` makes of the options, and end the verb."""
    with _errors_to(doors.result):
        if doors.spec is not None:
            sole_spec(context)
            spec = read_spec(stage, doors.spec)
        else:
            spec = spec_of()
        result = run_spec(stage, spec, doors)
        _write_logs()
        if doors.result is not None:
            atomic_write(doors.result, result.model_dump_json(indent=1).encode() + b"\n")
    show_result(result, as_json=doors.as_json)
    if (why := why_not(result)) is not None:
        print(f"ringrift: {why}", file=sys.stderr)
    raise typer.Exit(exit_code_of(result))


def _preflight(spec: specs.TrainSpec) -> None:
    """Check a training before it begins, in its own process on its own host; raises the failed check with its fix."""
    from ringrift_ops.home import Home
    from ringrift_ops.operations.preflight import preflight, require
    from ringrift_ops.settings import Settings

    home = Home.find()
    require(preflight(home, spec, Settings.load(home).profile(spec.config)))


def _write_logs() -> None:
    from ringrift_ops.home import Home
    from ringrift_ops.operations.logs import write_logs
    from ringrift_ops.stages.recording import ledger_is_elsewhere, open_ledger

    if not ledger_is_elsewhere():
        home = Home.find()
        write_logs(home, open_ledger(home))


def run_spec(stage: Stage, spec: StageSpec, doors: Doors) -> BaseModel:
    """Return the result of ``stage`` on ``spec``, its progress shown and written on the way."""
    if doors.verbose:
        print(f"{stage} {spec.model_dump_json(indent=1)}", file=sys.stderr)
    if isinstance(spec, specs.TrainSpec):
        _preflight(spec)
    run: Callable[[StageSpec, Report], BaseModel] = importlib.import_module(f"ringrift_ops.stages.{stage.value}").run
    with ExitStack() as stack:
        reports: list[Report] = [stack.enter_context(shown())]
        if doors.heartbeat is not None:
            reports.append(stack.enter_context(HeartbeatFile(doors.heartbeat)))

        def report(beat: Heartbeat) -> None:
            for one in reports:
                one(beat)

        return run(spec, report)


def read_spec(stage: Stage, path: Path) -> StageSpec:
    """Return the spec in a JSON file; raises :class:`SpecFileError` with every complaint, :class:`NoSpecFileError`."""
    try:
        return SPECS[stage].model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise NoSpecFileError(f"--spec {path}: no such file") from None
    except OSError as error:
        raise SpecFileError(f"--spec {path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise SpecFileError(
            f"--spec {path} is not a {stage} spec: {complaints(error)}; `ringrift describe {stage}` shows what it takes"
        ) from error


def exit_code_of(result: BaseModel) -> ExitCode:
    """Return what a verb's process answers for a result that is there (gates.md, "What a verdict means")."""
    match result:
        case specs.GauntletResult(verdict=Verdict.NO_EVIDENCE):
            return ExitCode.NO_DATA
        case (
            specs.GauntletResult(verdict=Verdict.FAIL)
            | specs.ParityResult(passed=False)
            | specs.PromoteResult(promoted=False)
        ):
            return ExitCode.GATE_SAID_NO
        case specs.DistributeResult(deliveries=deliveries) if any(one.lost for one in deliveries):
            return ExitCode.INFRASTRUCTURE
    return ExitCode.DONE


def why_not(result: BaseModel) -> str | None:
    """Return one line for a result that is there and yet not what was hoped for; None for all others."""
    match result:
        case specs.ParityResult(passed=False, failures=failures, failed=failed, checked=checked):
            see = f"; `ringrift parity diff {failures[0].bundle}` shows the first" if failures else ""
            return f"Parity validation failed: {failed} games failed parity check, {checked} were checked{see}"
        case specs.GauntletResult(verdict=Verdict.FAIL | Verdict.NO_EVIDENCE as verdict, reason=reason):
            return f"{verdict}: {reason}"
        case specs.PromoteResult(promoted=False, reason=reason):
            return f"not promoted: {reason}"
        case specs.DistributeResult(deliveries=deliveries) if lost := [one for one in deliveries if not one.verified]:
            return "not delivered to " + "; ".join(f"{one.destination}: {one.error}" for one in lost)
    return None


def show_result(result: BaseModel, *, as_json: bool) -> None:
    """Print a result for people or as JSON."""
    if as_json:
        print_json(result)
    else:
        print_fields(result.model_dump(mode="json"))


@contextmanager
def _errors_to(path: Path | None) -> Iterator[None]:
    """Leave in ``path`` why there is no result; the error itself goes on."""
    try:
        yield
    except BaseException as error:
        if path is not None and not isinstance(error, typer.Exit):
            code = error.exit_code if isinstance(error, RingRiftError) else ExitCode.INFRASTRUCTURE
            said = {"type": type(error).__name__, "message": str(error), "exit_code": int(code)}
            atomic_write(path, json.dumps({"error": said}).encode() + b"\n")
        raise
