"""``ringrift alerts`` and ``ringrift incident``: what is wrong now, who has taken it on, and what it was."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ringrift_ops.cli import options as o
from ringrift_ops.cli.control import Reason, asker
from ringrift_ops.cli.output import print_fields, print_json, print_table
from ringrift_ops.errors import ExitCode

if TYPE_CHECKING:
    from ringrift_ops.ledger import Incident

Number = Annotated[int, typer.Argument(metavar="ID", help="The incident's number; `ringrift incident list`.")]
Output = Annotated[Path | None, typer.Option("--output", help="Write the page to this file instead.")]


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    app.command("alerts")(alerts)
    group = typer.Typer(help="Alerts that fired: taken on, noted, closed, reviewed.", no_args_is_help=True)
    group.command("list")(list_incidents)
    group.command("show")(show)
    group.command("ack")(ack)
    group.command("note")(note)
    group.command("close")(close)
    group.command("template")(template)
    group.command("review")(review)
    app.add_typer(group, name="incident")


def alerts(
    evaluate: Annotated[
        bool, typer.Option("--evaluate", help="Also open, escalate and end incidents, and tell; as the DAG does.")
    ] = False,
    as_json: o.AsJson = False,
) -> None:
    """Show which alerts fire now, and when they were last evaluated; exit code 1 when any does."""
    from ringrift_ops.home import Home
    from ringrift_ops.operations.incidents import evaluated_at, firing_now, look
    from ringrift_ops.platform.facts import airflow_facts, watch

    found, airflow = watch(), airflow_facts(Home.find())
    fires = look(found, airflow, asker().actor).firing if evaluate else firing_now(found, airflow)
    last = evaluated_at(found.ledger)
    if as_json:
        print_json({"firing": fires, "evaluated_at": last})
    else:
        columns = ("alert", "config", "what", "evidence", "begin with")
        print_table(columns, [(one.rule.value, one.config, one.summary, one.evidence, one.fix) for one in fires])
        print(f"\n{len(fires)} fire; last evaluated {'never' if last is None else last.isoformat(timespec='seconds')}")
    if fires:
        raise typer.Exit(ExitCode.GATE_SAID_NO)


def list_incidents(
    everything: Annotated[bool, typer.Option("--all", help="Closed ones too.")] = False, as_json: o.AsJson = False
) -> None:
    """Show the incidents that are not closed, newest first, and until when somebody has to take each on."""
    from ringrift_ops.operations.incidents import answer_by
    from ringrift_ops.platform.facts import watch

    found = watch().ledger.incidents(unclosed=not everything)
    if as_json:
        print_json([vars(one) | {"state": one.state, "answer_by": answer_by(one)} for one in found])
        return
    columns = ("id", "level", "state", "config", "what", "since", "answer due", "taken on by")
    rows = [
        (str(one.id), f"L{one.level}", one.state, one.config, one.summary,
         *map(_stamp, (one.opened_at, answer_by(one))), one.acknowledged_by)
        for one in found
    ]  # fmt: skip
    print_table(columns, rows)


def show(incident: Number, as_json: o.AsJson = False) -> None:
    """Show all that is on record about an incident, its timeline from the events around it."""
    from ringrift_ops.operations.incidents import wants_a_row
    from ringrift_ops.operations.reviews import story
    from ringrift_ops.platform.facts import watch

    told = story(watch().ledger, incident)
    if as_json:
        print_json(vars(told) | {"state": told.incident.state})
        return
    print_fields({"state": told.incident.state, "answer due": told.answer_by} | vars(told.incident))
    print("\ntimeline:")
    for at, words in told.timeline:
        print(f"  {at.isoformat(timespec='seconds')} {words}")
    rows = [
        (one.kind, f"L{one.level}", one.target, one.sent_at or f"not told, {one.tries} tries: {one.error}")
        for one in told.notifications
    ]
    print()
    print_table(("told", "level", "whom", "when"), rows)
    if (wanted := wants_a_row(told.incident)) is not None:
        print(f"\n{wanted}")


def ack(incident: Number, reason: Reason = "", as_json: o.AsJson = False) -> None:
    """Take an incident on, which stops its clock; refused for one that is closed."""
    from ringrift_ops.operations.incidents import acknowledge
    from ringrift_ops.platform.facts import watch

    _show(acknowledge(watch(), asker(reason), incident), as_json=as_json)


def note(
    incident: Number,
    text: Annotated[str, typer.Argument(help="What was found or done.")],
    as_json: o.AsJson = False,
) -> None:
    """Write down what was found or done about an incident."""
    from ringrift_ops.operations.incidents import note as write_down
    from ringrift_ops.platform.facts import watch

    written = write_down(watch(), asker(), incident, text)
    if as_json:
        print_json(written)
    else:
        print(f"noted on incident {incident}")


def close(
    incident: Number,
    cause: Annotated[str | None, typer.Option("--cause", help="What it was; leave it out when nobody knows.")] = None,
    reason: Reason = "",
    as_json: o.AsJson = False,
) -> None:
    """Close an incident: what was done (--reason), and what it was (--cause)."""
    from ringrift_ops.operations.incidents import close as close_it
    from ringrift_ops.operations.incidents import wants_a_row
    from ringrift_ops.platform.facts import watch

    closed = close_it(watch(), asker(reason), incident, cause)
    _show(closed, as_json=as_json)
    if not as_json and (wanted := wants_a_row(closed)) is not None:
        print(wanted)


def template(incident: Number, output: Output = None) -> None:
    """Print the escalation template of an incident, filled from the record."""
    from ringrift_ops.operations.reviews import escalation, story
    from ringrift_ops.platform.facts import watch

    _page(escalation(story(watch().ledger, incident)), output)


def review(incident: Number, output: Output = None) -> None:
    """Print the post-incident review page: facts, timeline, cause, and what only people know as questions."""
    from ringrift_ops.operations.reviews import review as review_of
    from ringrift_ops.operations.reviews import story
    from ringrift_ops.platform.facts import watch

    _page(review_of(story(watch().ledger, incident)), output)


def _stamp(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds")


def _page(text: str, output: Path | None) -> None:
    from ringrift_ops.store import atomic_write

    if output is None:
        print(text, end="")
    else:
        atomic_write(output, text.encode())
        print(f"written to {output}")


def _show(found: Incident, *, as_json: bool) -> None:
    if as_json:
        print_json(vars(found) | {"state": found.state})
    else:
        print(f"incident {found.id} is {found.state}: {found.summary}")
