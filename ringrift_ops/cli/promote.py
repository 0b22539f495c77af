"""``ringrift promote``."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from ringrift_ops.cli import options as o
from ringrift_ops.stages.specs import PromoteSpec, Stage


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("promote")(promote)


def promote(
    context: typer.Context,
    model: Annotated[str | None, typer.Option("--model", help="Candidate: a file or a sha256.")] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="The gauntlet's report; else the newest of this candidate.")
    ] = None,
    config: o.Config = None,
    board: o.Board = None,
    players: o.Players = None,
    profile: o.Profile = None,
    verbose: o.Verbose = False,
    as_json: o.AsJson = False,
    spec: o.SpecFile = None,
    result: o.ResultFile = None,
    heartbeat: o.HeartbeatPath = None,
) -> None:
    """Make a candidate canonical, on the evidence of its gauntlet only."""
    from ringrift_ops.cli.running import run_stage

    with ExitStack() as until_done:

        def asked() -> PromoteSpec:
            key = o.config_of(config, board, players)
            spec = spec_of(key, model, report, profile=profile)
            return spec.model_copy(update={"token": until_done.enter_context(_lease(key))})

        run_stage(context, Stage.PROMOTE, o.Doors(spec, result, heartbeat, as_json, verbose), asked)


@contextmanager
def _lease(key: str) -> Iterator[int]:
    """Hold the config's generation lease for one promotion and yield its token; raises ``LeaseHeldError``."""
    from ringrift_ops.ledger import Ledger, generation_lease

    ledger, name = Ledger.open(), generation_lease(key)
    lease = ledger.acquire_lease(name, f"ringrift promote, {getpass.getuser()}@{socket.gethostname()} {os.getpid()}")
    try:
        yield lease.token
    finally:
        ledger.release_lease(name, lease.token)


def spec_of(key: str, model: str | None, report: Path | None, *, profile: str | None) -> PromoteSpec:
    """Return what the options ask for; raises :class:`NoReportError`, ``NoSuchNetError``."""
    from ringrift_ops.cli.nets import NoSuchNetError, net_named
    from ringrift_ops.home import Home
    from ringrift_ops.ledger import Ledger
    from ringrift_ops.settings import Settings
    from ringrift_ops.stages.order import Order
    from ringrift_ops.store import Store, sha256_file

    if model is None:
        raise o.OptionConflictError("which net? Give --model FILE or a sha256")
    candidate = net_named(model, key, "--model")
    if report is None:
        evaluations = [one for one in Ledger.open().evaluations(config=key) if one.candidate == candidate.sha]
        if not evaluations:
            raise NoSuchNetError(f"{candidate.sha[:12]} has no gauntlet on record: run `ringrift gauntlet` first")
        sha = max(evaluations, key=lambda one: one.id).report
        path = Store(Home.find()).get(sha)
    else:
        path = o.existing(report, "--report")
        sha = sha256_file(path)
    settings = Settings.load()
    order = Order.outside(settings, key, profile, 0)
    return order.promote(
        candidate=candidate.sha,
        candidate_path=str(candidate.path),
        report=sha,
        report_path=str(path),
        auto_promote=True,
    )
