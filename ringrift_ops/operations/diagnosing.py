"""A config's jobs and what holds it back, each with its causes: what ``ringrift diagnose`` shows (R11, R26)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ringrift_ops.errors import NoDataError, RingRiftError
from ringrift_ops.home import Home
from ringrift_ops.hosts.jobs import JobState, Transport
from ringrift_ops.ledger import Ledger, StageRun
from ringrift_ops.operations.causes import BY_NAME, ROWS, Row
from ringrift_ops.operations.control import Airflow
from ringrift_ops.operations.diagnosis import SAID_OUTRIGHT, UNKNOWN, Cause, diagnose, filled
from ringrift_ops.operations.evidence import told
from ringrift_ops.operations.idle import stamp
from ringrift_ops.operations.locks import locks
from ringrift_ops.operations.sections import OF_CAUSES, text_of
from ringrift_ops.operations.status import ConfigStatus
from ringrift_ops.operations.traces import Evidence, NoTracesError, local_evidence, located, signal_of
from ringrift_ops.settings import DIAGNOSIS, Settings, stage_named
from ringrift_ops.settings.names import nearest
from ringrift_ops.stages.hosting import Hosting
from ringrift_ops.stages.links import LinkState, links_of
from ringrift_ops.stages.specs import Stage


class NoSuchSymptomError(NoDataError):
    """No cause of the table has that name."""


@dataclass(frozen=True)
class Finding:
    """The causes of one job, or of a stage that does not run (``job_id`` None)."""

    config: str
    stage: str
    job_id: str | None
    host: str | None
    state: str
    causes: list[Cause]


def findings(
    home: Home, ledger: Ledger, found: ConfigStatus, stage: str | None = None, airflow: Airflow | None = None
) -> list[Finding]:
    """Return what is wrong with a config (with one stage of it), jobs first; empty when nothing is.

    Raises ``UnknownStageError``.
    """
    wanted = [stage_named(stage)] if stage else list(Stage)
    hosting = Hosting(home, ledger)
    runs = [] if found.generation_id is None else ledger.stage_runs(found.generation_id)
    mine = [run for run in runs if Stage(run.stage) in wanted]
    jobs = [_of_run(hosting, found.config, run) for run in mine if run.job_id]
    refused = {run.stage: _refused(hosting, found.config, run) for run in mine if not run.job_id and run.error}
    profile = _other_profile(home, ledger, found.generation_id)
    held = [*_held(found, wanted, mine, profile), *_dead_lock(home, ledger, found, airflow)]
    all_found = [*jobs, *refused.values(), *held, *_links(home, ledger, found, wanted)]
    return [one for one in all_found if one.causes]


def _dead_lock(home: Home, ledger: Ledger, found: ConfigStatus, airflow: Airflow | None) -> list[Finding]:
    """A lock that nothing alive uses, while runs wait for it."""
    held = locks(home, ledger, found.config, airflow=airflow) if found.waiting else []
    dead = [one for one in held if one.in_use is None]
    lines = [f"held by {one.holder} until {stamp(one.until)}; nothing of it is alive, and a run waits" for one in dead]
    row = BY_NAME["lock_held"]
    fix = f"ringrift lock {found.config} --release"
    causes = [Cause(row.cause, row.title, [line], SAID_OUTRIGHT, fix, row.anchor) for line in lines]
    return [Finding(found.config, Stage.SELFPLAY.value, None, None, "waiting", causes)]


def of_job(home: Home, job_id: str) -> Finding:
    """Return what is wrong with a job of this machine; raises ``NoTracesError``."""
    evidence = local_evidence(home, job_id, stacks=True)
    return Finding(evidence.config or "", evidence.stage, job_id, None, evidence.state or "", diagnose(evidence))


def _of_run(hosting: Hosting, config: str, run: StageRun) -> Finding:
    evidence = evidence_of(hosting, config, run)
    # A gauntlet that says no ends with code 1 and is done all the same.
    state = run.state if run.state == "done" else evidence.state or run.state
    return Finding(config, run.stage, evidence.job_id, run.host, state, diagnose(evidence))


def _refused(hosting: Hosting, config: str, run: StageRun) -> Finding:
    """What is wrong with a stage that was not even started."""
    return Finding(config, run.stage, None, run.host, "not started", diagnose(evidence_of(hosting, config, run)))


def evidence_of(hosting: Hosting, config: str, run: StageRun) -> Evidence:
    """Return the evidence of a generation's job, with what the ledger knows of it; all there is if none began."""
    evidence = collected(hosting, run.host, run.job_id) if run.job_id else Evidence("", run.stage)
    if run.state == "failed" and run.error:
        said = [*evidence.log_tail, run.error]
        evidence = replace(evidence, state="failed", message=evidence.message or run.error, log_tail=said)
    profile = _other_profile(hosting.home, hosting.ledger, run.generation)
    return replace(evidence, config=config, stage=run.stage, host=run.host, profile=profile)


def _other_profile(home: Home, ledger: Ledger, generation_id: int | None) -> str | None:
    """A generation's profile, where commands would take another one unless told."""
    profile = None if generation_id is None else ledger.generation(generation_id).profile
    return None if profile == Settings.load(home).default_profile else profile


def collected(hosting: Hosting, host: str | None, job_id: str) -> Evidence:
    """Return the evidence of a job on its host; a host that cannot be asked is evidence itself."""
    if host is None:
        try:
            return local_evidence(hosting.home, job_id, stacks=True)
        except NoTracesError as error:
            return Evidence(job_id, "unknown", reason=str(error))
    try:
        jobs = hosting.jobs(host)
        status = jobs.poll(job_id)
        if status.state is JobState.ABSENT:
            return Evidence(job_id, "unknown", host=host, reason=f"host {host} has no such job")
        message = _message(jobs, job_id) if status.over else ""
        seen = told(hosting, host, job_id)
        spec = located(hosting.home, jobs.spec(job_id) or {})
    except RingRiftError as error:
        return Evidence(
            job_id, "unknown", host=host, state="dead", error=type(error).__name__, message=str(error)
        )  # fmt: skip
    return Evidence(
        job_id, "unknown", host=host, state=status.state.value, exit_code=status.raw_code,
        signal=signal_of(status.raw_code), reason=status.reason, message=message,
        log_tail=[line for line in seen.log.lines if line.strip()][-DIAGNOSIS.log_lines :],
        heartbeat=status.heartbeat, heartbeat_age=status.heartbeat_age,
        memory={"free": seen.memory_free, "total": seen.memory_total}, disk_free_bytes=seen.disk_free,
        gpu=seen.gpus, dmesg=seen.kernel.lines, processes=[f"{one.pid} {one.command}" for one in seen.processes],
        spec=spec,
    )  # fmt: skip


def _message(jobs: Transport, job_id: str) -> str:
    try:
        jobs.collect(job_id)
    except RingRiftError as error:
        return str(error)
    return ""


def _held(found: ConfigStatus, wanted: list[Stage], runs: list[StageRun], profile: str | None) -> list[Finding]:
    """What the platform waits for, each cause under the first stage that it holds."""
    hosts = {run.job_id: run.host for run in runs if run.job_id}
    seen: set[str] = set()
    result = []
    for cell in found.stages:
        if cell.stage not in wanted or cell.idle is None:
            continue
        meant = next((job for job in hosts if job in cell.idle.reason.split()), "")
        evidence = Evidence(meant, cell.stage.value, config=found.config, host=hosts.get(meant),
                            held=cell.idle.why.value, held_by=f"{cell.idle.reason}; {cell.idle.change}",
                            profile=profile)  # fmt: skip
        causes = [one for one in diagnose(evidence) if one.cause not in seen]
        seen |= {one.cause for one in causes}
        result.append(Finding(found.config, cell.stage.value, None, None, cell.status, causes))
    return result


def _links(home: Home, ledger: Ledger, found: ConfigStatus, wanted: list[Stage]) -> list[Finding]:
    if Stage.PROMOTE not in wanted:
        return []
    wrong = [
        f"{home.relative(one.path)} is {one.state.value}"
        for one in links_of(home, ledger)
        if one.config == found.config and one.state is not LinkState.RIGHT
    ]
    if not wrong:
        return []
    row = BY_NAME["wrong_model"]
    cause = Cause(row.cause, row.title, wrong, SAID_OUTRIGHT, "ringrift model links --repair", row.anchor)
    return [Finding(found.config, Stage.PROMOTE.value, None, None, "links", [cause])]


# --- the page ------------------------------------------------------------------------------------


def rows_named(symptom: str) -> list[Row]:
    """Return the rows that a cause's name (with - or _), words of its title or a line of a log mean.

    Raises :class:`NoSuchSymptomError` with the nearest names.
    """
    name = symptom.strip().lower().replace("-", "_")
    if name in BY_NAME:
        return [BY_NAME[name]]
    said = [row for row in ROWS if row.says(symptom) or symptom.lower() in row.title.lower()]
    if not said:
        raise NoSuchSymptomError(f"no cause is called {symptom!r}; {nearest(name, list(BY_NAME))}")
    return said


def section(row: Row) -> str:
    """Return the section of a cause on its page, Markdown."""
    stage = row.stages[0] if row.stages else "train"
    spec = {"batch_size": 512, "learning_rate": 0.001, "dataset_path": "data/training/hex8_2p.npz"}
    example = Evidence(f"hex8_2p-g7-{stage}", stage, config="hex8_2p", host="gpu1", spec=spec)
    seen = []
    if row.errors:
        seen.append(f"- its error is {' or '.join(row.errors)}")
    if row.words:
        seen.append(f"- it said: `{row.words}`" + (f", not `{row.but_not}`" if row.but_not else ""))
    if row.held:
        seen.append(f"- the platform says: {', '.join(row.held)}")
    where = f" (stages: {', '.join(row.stages)})" if row.stages else ""
    lines = [f"## {row.cause.replace('_', '-')}", "", f"{row.title.capitalize()}{where}.", ""]
    lines += [*(seen or ["- by a rule: exit code or signal, kernel log, heartbeat and figures of the host"]), ""]
    worked = [f"Worked through: [{OF_CAUSES[row.cause]}]({OF_CAUSES[row.cause]})", ""] if row.cause in OF_CAUSES else []
    return "\n".join([*lines, "```", f"$ {filled(row.fix, example)}", "```", "", *worked])


def opened(symptom: str) -> str:
    """Return all that the pages say about a symptom; raises :class:`NoSuchSymptomError`."""
    if symptom.strip().lower() == UNKNOWN:
        return _UNKNOWN.lstrip()
    rows = rows_named(symptom)
    worked = dict.fromkeys(OF_CAUSES[row.cause] for row in rows if row.cause in OF_CAUSES)
    return "\n".join([*(section(row) for row in rows), *filter(None, map(text_of, worked))])


def page() -> str:
    """Return the whole page, Markdown."""
    return _HEAD + "\n".join(section(row) for row in ROWS) + _UNKNOWN


_HEAD = """# Diagnosis: the causes that are known

Written by `make docs` from `operations/causes.py`; a test compares the two. How they are found, and what is mended
without asking: [remedies](remedies.md).

"""

_UNKNOWN = """
## unknown

No row fits. `ringrift diagnose` shows how it ended and its last words; whoever finds the cause adds a row to the table,
with a test that produces it.
"""
