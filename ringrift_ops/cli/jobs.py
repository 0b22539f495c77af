"""``ringrift jobs``: what runs on this machine or on a host, its log, and its end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from ringrift_ops.cli import options as o
from ringrift_ops.cli.control import Reason, asker
from ringrift_ops.cli.output import print_fields, print_json, print_table

if TYPE_CHECKING:
    from ringrift_ops.hosts.jobs import JobStatus, Transport

_FOLLOW_SECONDS = 0.5
_CODES = {1: "a gate said no", 2: "wrong usage", 3: "no data", 4: "infrastructure"}


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("jobs")(jobs)


def jobs(
    job_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="One job; all unless given.")] = None,
    logs: Annotated[bool, typer.Option("--logs", help="Print its log.")] = False,
    tail: Annotated[int | None, typer.Option("--tail", min=1, help="With --logs: only the last so many lines.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="With --logs: go on until the job is over.")] = False,
    host: Annotated[str | None, typer.Option("--host", help="A host of the inventory; else this machine.")] = None,
    kill: Annotated[bool, typer.Option("--kill", help="End it with all it started; it can be resumed.")] = False,
    reason: Reason = "",
    as_json: o.AsJson = False,
) -> None:
    """Show jobs on this machine or a host, the log of one, or end one."""
    from ringrift_ops.home import Home
    from ringrift_ops.hosts.jobs import JobState, NoSuchJobError
    from ringrift_ops.ledger import Ledger
    from ringrift_ops.operations.jobs import end
    from ringrift_ops.stages.hosting import Hosting

    hosting = Hosting(Home.find(), Ledger.open())
    transport = hosting.jobs(host)
    if job_id is None:
        if logs or kill:
            raise o.OptionConflictError("--logs and --kill need the id of a job; `ringrift jobs` lists them")
        _show_all(transport, as_json=as_json)
        return
    status = end(hosting, asker(reason), job_id, host) if kill else transport.poll(job_id)
    if status.state is JobState.ABSENT:
        listed = "ringrift jobs" if host is None else f"ringrift jobs --host {host}"
        raise NoSuchJobError(f"no job {job_id} at {transport.place(job_id)}; `{listed}` lists them")
    if logs:
        _print_log(transport, job_id, tail=tail, follow=follow)
    elif as_json:
        print_json(status)
    else:
        print_fields(status.model_dump(mode="json") | {"folder": transport.place(job_id)})


def _show_all(transport: Transport, *, as_json: bool) -> None:
    states = [transport.poll(job_id) for job_id in transport.all()]
    if as_json:
        print_json(states)
        return
    print_table(
        ("job", "state", "attempt", "started", "progress", "how it ended"),
        [(one.job_id, one.state.value, one.attempt, one.started, _progress(one), _ending(one)) for one in states],
    )


def _ending(status: JobStatus) -> str:
    """Return how a job ended; a stage that measured and said no is no accident, and its code says so."""
    meaning = _CODES.get(status.raw_code or 0)
    return status.reason if meaning is None else f"{status.reason}, code {status.raw_code}: {meaning}"


def _progress(status: JobStatus) -> str:
    beat = status.heartbeat
    if not beat:
        return "-"
    total = "" if beat.get("total") is None else f"/{beat['total']}"
    return f"{beat.get('phase', '')} {beat.get('done', '')}{total} {beat.get('unit', '')}".strip()


def _print_log(transport: Transport, job_id: str, *, tail: int | None, follow: bool) -> None:
    offset, text = 0, ""
    while (part := transport.log(job_id, offset)).text:
        offset = part.next_offset
        text = text + part.text if tail is None else "\n".join((text + part.text).rsplit("\n", tail + 1)[-tail - 1 :])
        if tail is None:
            print(text, end="")
            text = ""
    print(text, end="", flush=True)
    while follow:
        over = transport.poll(job_id).over  # asked before the last look, so nothing is missed
        while (part := transport.log(job_id, offset)).text:
            offset = part.next_offset
            print(part.text, end="", flush=True)
        if over:
            return
        time.sleep(_FOLLOW_SECONDS)
