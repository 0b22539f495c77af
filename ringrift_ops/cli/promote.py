"""``ringrift promote`` and ``ringrift rollback``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from ringrift_ops.cli import options as o
from ringrift_ops.cli.control import Reason, asker
from ringrift_ops.cli.verified import show_verified
from ringrift_ops.errors import ExitCode
from ringrift_ops.stages.specs import Stage, Verdict

if TYPE_CHECKING:
    from ringrift_ops.operations.promotions import Answer, Desk


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    app.command("promote")(promote)
    app.command("rollback")(rollback)


def promote(
    context: typer.Context,
    model: Annotated[str | None, typer.Option("--model", help="Candidate: a file or a sha256.")] = None,
    gauntlet: Annotated[bool, typer.Option("--gauntlet", help="Play its gauntlet now, and go by that.")] = False,
    games: Annotated[int | None, typer.Option("--games", min=1, help="With --gauntlet: games per look.")] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="The gauntlet's report; else the newest of this candidate.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", "--force-promote", help="Without a gauntlet; needs --reason, and is on record.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would become of it; writes nothing.")] = False,
    sync: Annotated[bool, typer.Option("--sync-to-cluster", help="Deliver it to every destination, too.")] = False,
    config: o.Config = None,
    board: o.Board = None,
    players: o.Players = None,
    profile: o.Profile = None,
    seed: o.Seed = None,
    reason: Reason = "",
    verbose: o.Verbose = False,
    as_json: o.AsJson = False,
    spec: o.SpecFile = None,
    result: o.ResultFile = None,
    heartbeat: o.HeartbeatPath = None,
) -> None:
    """Make a candidate canonical: on the evidence of its gauntlet, or by force with a reason."""
    if spec is not None:
        from ringrift_ops.cli.running import run_stage

        run_stage(context, Stage.PROMOTE, o.Doors(spec, result, heartbeat, as_json, verbose), _no_options)
    if result is not None or heartbeat is not None or verbose:
        raise o.OptionConflictError("--result, --heartbeat and --verbose go with --spec; use --json for the answer")
    from ringrift_ops.cli.nets import net_named
    from ringrift_ops.cli.progress import shown
    from ringrift_ops.operations.promotions import Asked, Net, promote_net
    from ringrift_ops.store import sha256_file

    key = o.config_of(config, board, players)
    if model is None:
        raise o.OptionConflictError("which net? Give --model FILE or a sha256")
    if gauntlet and (force or report is not None):
        raise o.OptionConflictError("--gauntlet plays the evidence; leave --force and --report out")
    if games is not None and not gauntlet:
        raise o.OptionConflictError("--games is about the games of --gauntlet; give both")
    net = net_named(model, key, "--model")
    asked = Asked(
        gauntlet=gauntlet,
        games=games,
        report=None if report is None else sha256_file(o.existing(report, "--report")),
        force=force,
        dry_run=dry_run,
        sync=sync,
        profile=profile,
        seed=o.seed_of(seed),
    )
    with shown() as progress:
        answer = promote_net(desk(), asker(reason), key, Net(net.sha, net.path), asked, progress)
    _show(answer, as_json=as_json)
    if answer.promoted and not dry_run:
        show_verified("promote", key, to_stderr=as_json)
    raise typer.Exit(_code(answer))


def _no_options() -> NoReturn:
    raise o.OptionConflictError("--spec says everything")


def desk() -> Desk:
    """Return the home whose nets are promoted."""
    from ringrift_ops.home import Home
    from ringrift_ops.ledger import Ledger
    from ringrift_ops.operations.promotions import Desk
    from ringrift_ops.settings import Settings

    home = Home.find()
    settings = Settings.load(home)
    return Desk(home, settings, Ledger.open(settings.ledger_url))


def _code(answer: Answer) -> ExitCode:
    judged = answer.evaluation
    if judged is not None and judged.verdict is Verdict.NO_EVIDENCE:
        return ExitCode.NO_DATA
    if answer.dry_run and judged is not None:
        return ExitCode.DONE if judged.verdict is Verdict.PASS else ExitCode.GATE_SAID_NO
    if not answer.promoted and not answer.dry_run:
        return ExitCode.GATE_SAID_NO
    return ExitCode.DONE if all(one.verified for one in answer.deliveries) else ExitCode.INFRASTRUCTURE


def _show(answer: Answer, *, as_json: bool) -> None:
    from ringrift_ops.cli.output import print_fields, print_json

    if as_json:
        print_json(answer)
    else:
        print_fields(vars(answer))


def rollback(
    config: Annotated[str, typer.Argument(help="Config key, e.g. hex8_2p.")],
    to: Annotated[
        str | None, typer.Option("--to", help="A net that was in force: its sha256 or its start; else the one before.")
    ] = None,
    reason: Reason = "",
    as_json: o.AsJson = False,
) -> None:
    """Take the canonical net of a config back: pointer and links at once, then every destination."""
    from ringrift_ops.cli.output import print_fields, print_json
    from ringrift_ops.operations.promotions import roll_back

    found = roll_back(desk(), asker(reason), config, to)
    if as_json:
        print_json(found)
    else:
        print_fields(vars(found))
    show_verified("rollback", config, to_stderr=as_json)
    if not all(one.verified for one in found.links_and_deliveries.deliveries):
        raise typer.Exit(ExitCode.INFRASTRUCTURE)
