"""Why a job failed or does not go on: causes with their evidence, how sure they are, and what mends them (R11)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from shlex import quote
from typing import Any

from ringrift_ops.hosts.jobs import command_about
from ringrift_ops.operations.causes import BY_NAME, PAGE, ROWS, Row
from ringrift_ops.operations.traces import Evidence
from ringrift_ops.settings import DIAGNOSIS, REMEDIES

SAID_OUTRIGHT, SAID, LIKELY, POSSIBLE = 0.95, 0.8, 0.6, 0.4
UNKNOWN = "unknown"
ENGINE_ENDS = ("engine_crash", "engine_hang")
"""Of a game's parity failure: the second engine died or hung over it."""
_PROFILED = re.compile(r"ringrift (selfplay|export|train|gauntlet|preflight|trigger|start) ")
"""Commands that do what their profile says."""
_TOLD_BY = re.compile(r"^(ringrift: |job \S+ exited with code \d+: )")
"""Who tells an error once more: the command on its last line, and the platform."""


@dataclass(frozen=True)
class Cause:
    """One cause. ``confidence`` from 0 to 1; ``fix``: a command; ``page``: the section about it."""

    cause: str
    title: str
    evidence: list[str]
    confidence: float
    fix: str
    page: str


Clue = tuple[str, float, str]
"""A cause's name, how sure it is, and the line that says so."""


def diagnose(evidence: Evidence) -> list[Cause]:
    """Return the causes that the evidence speaks for, the surest first; several are possible.

    A failure that none explains is called unknown and asks for a new row. A job that ended well or goes on has none.
    """
    clues: dict[str, list[tuple[float, str]]] = {}
    for name, confidence, line in (*_by_table(evidence), *_by_rules(evidence)):
        clues.setdefault(name, []).append((confidence, line))
    found = [_cause(BY_NAME[name], evidence, lines) for name, lines in clues.items()]
    found = [one for one in found if one.confidence >= DIAGNOSIS.least]
    if not found and failed(evidence):
        return [_unknown(evidence)]
    return sorted(found, key=lambda one: -one.confidence)


def failed(evidence: Evidence) -> bool:
    """Whether the job ended otherwise than well."""
    return evidence.state in ("failed", "dead") or evidence.exit_code not in (None, 0) or evidence.error is not None


def _by_table(evidence: Evidence) -> Iterator[Clue]:
    said = evidence.words if failed(evidence) else [evidence.message, str(evidence.result.get("stopped_early", ""))]
    for row in ROWS:
        if not row.fits(evidence.stage):
            continue
        if evidence.error in row.errors and not (row.but_not and _any(row.but_not, evidence.message)):
            yield row.cause, SAID_OUTRIGHT, f"{evidence.error}: {evidence.message}"
        for line in said:
            if row.says(line):
                yield row.cause, SAID, line
        if evidence.held is not None and evidence.held in row.held:
            told = evidence.held_by
            yield row.cause, SAID_OUTRIGHT, told if told.startswith(evidence.held) else f"{evidence.held}: {told}"


def _any(pattern: str, text: str) -> bool:
    return re.search(pattern, text, re.IGNORECASE) is not None


def _by_rules(evidence: Evidence) -> Iterator[Clue]:
    for rule in (_killed, _crashed, _silent, _not_started, _full, _gpu, _losses, _verdict, _rebooted):
        yield from rule(evidence)


def _killed(e: Evidence) -> Iterator[Clue]:
    """SIGKILL: by the kernel, when it says so or memory was short; by a person when the runner was asked to."""
    kernel = [line for line in e.dmesg if "oom-kill" in line.lower() or "out of memory" in line.lower()]
    if e.signal != "SIGKILL" and not (e.state == "dead" and kernel):
        return
    for line in kernel:
        yield "killed_for_memory", SAID_OUTRIGHT, line
    share = _memory_share(e)
    if not kernel and e.signal == "SIGKILL" and e.reason != "killed on request":
        sure = LIKELY if share is not None and share >= DIAGNOSIS.memory_share else POSSIBLE
        shown = "" if share is None else f"; {share:.0%} of the machine's memory is in use now"
        yield "killed_for_memory", sure, f"ended by SIGKILL and said nothing{shown}"


def _memory_share(e: Evidence) -> float | None:
    free, total = (e.memory or {}).get("free"), (e.memory or {}).get("total")
    return None if free is None or not total else 1 - free / total


def _crashed(e: Evidence) -> Iterator[Clue]:
    if e.signal in ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE"):
        yield "crashed", SAID_OUTRIGHT, f"ended by {e.signal}"
        for line in e.dmesg:
            if "segfault" in line:
                yield "crashed", SAID_OUTRIGHT, line


def _silent(e: Evidence) -> Iterator[Clue]:
    """A job that runs and shows nothing: where it stands, and whether its GPU works."""
    if e.state != "running" or e.held == "stalled":
        return
    if e.heartbeat is not None and e.heartbeat_age is not None and e.heartbeat_age > silence(e):
        phase = f"{e.heartbeat.get('phase', '')} {e.heartbeat.get('done', '')}".strip()
        yield "hung", SAID, f"last sign of life {e.heartbeat_age:.0f} s ago, at {phase}"
        for line in e.stack:
            yield "hung", SAID, line
        for one in e.gpu:
            if one.get("utilization") == 0:
                yield "hung", SAID, f"GPU {one.get('name')} is at 0 %"


def silence(e: Evidence) -> float:
    """Return the seconds of silence that are too many for a running job: three of the steps of its present phase.

    At least 30; ten minutes while it has not shown its pace.
    """
    if e.beat_seconds is None:
        return DIAGNOSIS.silence_seconds
    return max(REMEDIES.least_silence_seconds, REMEDIES.step_factor * e.beat_seconds)


def _not_started(e: Evidence) -> Iterator[Clue]:
    if e.exit_code == 127 or (failed(e) and e.exit_code == 126):
        yield "not_initialised", SAID_OUTRIGHT, f"exit code {e.exit_code}: {e.reason}"
    elif failed(e) and not e.log_tail and e.heartbeat is None and e.error is None and e.signal is None:
        yield "not_initialised", POSSIBLE, "it printed nothing and made no step"


def _full(e: Evidence) -> Iterator[Clue]:
    if failed(e) and e.disk_free_bytes is not None and e.disk_free_bytes < DIAGNOSIS.disk_free_bytes:
        yield "disk_full", SAID, f"{e.disk_free_bytes / 1e6:.0f} MB free on its disk"


def _gpu(e: Evidence) -> Iterator[Clue]:
    wants = str(e.spec.get("device", "")).startswith("cuda")
    for one in e.gpu:
        if failed(e) and wants and "error" in one:
            yield "no_gpu", SAID, str(one["error"])
        used, total = one.get("memory_used"), one.get("memory_total")
        short = used is not None and total and used / total >= DIAGNOSIS.memory_share
        if failed(e) and wants and short and _memory_is_meant(e):
            yield "gpu_memory", LIKELY, f"GPU {one.get('name')}: {used:.0f} of {total:.0f} MiB in use"
    for line in e.dmesg:
        if failed(e) and wants and "xid" in line.lower():
            yield "crashed", LIKELY, line


def _memory_is_meant(e: Evidence) -> bool:
    return e.signal == "SIGKILL" or any("memory" in line.lower() for line in e.words)


def _losses(e: Evidence) -> Iterator[Clue]:
    if e.stage != "train":
        return
    silent = any(_silent(e))
    sure = POSSIBLE if failed(e) or silent else SAID  # what ended or stopped it counts for more than how it went
    figures: Mapping[str, Any] = (e.heartbeat or {}).get("metrics") or {}
    stale = figures.get("epochs_without_improvement")
    if isinstance(stale, int) and stale >= DIAGNOSIS.stale_epochs:
        yield "plateau", sure, f"the validation loss has not improved for {stale} epochs"
    trained, valid = figures.get("epoch_train_loss"), figures.get("epoch_validation_loss")
    trained, valid = e.result.get("train_loss", trained), e.result.get("validation_loss", valid)
    if isinstance(trained, float) and isinstance(valid, float) and valid > trained * DIAGNOSIS.worse_ratio:
        yield "overfitting", sure, f"validation loss {valid:.4f}, training loss {trained:.4f}"


def _verdict(e: Evidence) -> Iterator[Clue]:
    verdict, reason = e.result.get("verdict"), e.result.get("reason")
    if verdict == "FAIL":
        yield "below_threshold", SAID_OUTRIGHT, f"FAIL: {reason}"
    if verdict == "NO_EVIDENCE":
        yield "games_crashed", SAID_OUTRIGHT, f"NO_EVIDENCE: {reason}"
    if e.result.get("promoted") is False:
        yield "below_threshold", SAID, f"not promoted: {reason}"
    for one in e.result.get("failures") or []:
        if engine := [kind for kind in one["kinds"] if kind in ENGINE_ENDS]:
            where = f"at move {one['move']} of game {one['game_id']} in {one['database']}"
            yield "engine_crashed", SAID_OUTRIGHT, f"{engine[0]} {where}"
    for one in e.result.get("deliveries") or []:
        if not one.get("verified"):
            yield "distribution_stuck", SAID_OUTRIGHT, f"{one.get('destination')}: {one.get('error')}"


def _rebooted(e: Evidence) -> Iterator[Clue]:
    if e.state == "dead" and "wrote no exit code" in e.reason:
        yield "host_lost", POSSIBLE, e.reason


def _cause(row: Row, e: Evidence, lines: list[tuple[float, str]]) -> Cause:
    lines = sorted(lines, key=lambda one: -one[0])
    return Cause(
        row.cause, row.title, _distinct(line for _, line in lines), lines[0][0], filled(row.fix, e), row.anchor
    )


def _distinct(lines: Iterable[str]) -> list[str]:
    """Return lines without those that only say again, with another beginning, what one before them says."""
    kept: list[str] = []
    for line in lines:
        if not any(_TOLD_BY.sub("", line) in other for other in kept):
            kept.append(line)
    return kept


def filled(fix: str, e: Evidence) -> str:
    """Return a fix with what is known of the job in it; one about a job that is not known is to recover the run."""
    if "{jobs}" in fix and not e.job_id:
        fix = "ringrift recover {config}"
    batch, rate = e.spec.get("batch_size"), e.spec.get("learning_rate")
    values = {
        "config": e.config or "CONFIG", "stage": e.stage, "host": e.host or _host(e),
        "batch": max(1, int(batch) // 2) if batch else "N", "rate": f"{float(rate) / 10:g}" if rate else "R",
        "dataset": e.spec.get("dataset_path") or "FILE", "model": e.spec.get("candidate") or "canonical",
        "bundle": _bundle(e),
    }  # fmt: skip
    known = {name: quote(str(value)) if value else "" for name, value in values.items()}
    command = fix.format(**known, jobs=command_about(e.job_id, e.host)).rstrip()
    return f"{command} --profile {e.profile}" if e.profile and _PROFILED.match(command) else command


def _host(e: Evidence) -> str:
    """The host that the job's error is about, which it never reached."""
    named = re.search(r"\bhost (\S+): ", e.message)
    return named[1] if named else ""


def _bundle(e: Evidence) -> str:
    """The first state bundle of a parity check that failed, by its result or by what was said."""
    kept = next((str(one["bundle"]) for one in e.result.get("failures") or [] if one["bundle"]), "")
    named = re.search(r"`ringrift parity diff ([^`]+)`", "\n".join(e.words))
    return kept or (named[1] if named else "BUNDLE")


def _unknown(e: Evidence) -> Cause:
    ended = f"exit code {e.exit_code}" + (f" ({e.signal})" if e.signal else "") + (f", {e.reason}" if e.reason else "")
    lines = [ended, *([f"{e.error}: {e.message}"] if e.error else []), *e.log_tail[-5:]]
    log = command_about(e.job_id, e.host, "--logs", "--tail", "100")
    look = log if e.job_id else f"ringrift status {e.config or ''}".rstrip()
    title = "unknown: no row of the table fits; look at its log and add one"
    return Cause(UNKNOWN, title, lines, 0.0, look, f"{PAGE}#unknown")
