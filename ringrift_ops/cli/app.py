"""The commands by group. Each module imports what is heavy inside its functions, so that ``--help`` is instant."""

from __future__ import annotations

from typing import Annotated

import typer

import ringrift_ops
from ringrift_ops.cli import (
    backout,
    cluster,
    control,
    data,
    diagnose,
    distribute,
    evidence,
    export,
    gauntlet,
    incidents,
    jobs,
    ledger,
    logs,
    model,
    network,
    parity,
    pipeline,
    platform,
    promote,
    receiving,
    recovery,
    remedies,
    retention,
    rules,
    selfplay,
    stages,
    status,
    train,
    verified,
    worker,
)
from ringrift_ops.cli.groups import GroupedCommands

app = typer.Typer(
    name="ringrift",
    cls=GroupedCommands,
    help="Trains nets for the board game RingRift. Exit codes: 0 done, 1 a gate said no, 2 wrong usage, 3 no data, "
    "4 infrastructure.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"ringrift {ringrift_ops.__version__}")
        raise typer.Exit


@app.callback()
def _ringrift(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Hold the options of the command itself."""


for _module in (platform, selfplay, parity, export, train, gauntlet, promote, distribute):
    _module.add_to(app)
for _module in (
    status, evidence, diagnose, remedies, incidents, recovery, control, backout, retention, data, pipeline, model,
    rules, ledger, jobs, cluster, receiving, worker, stages, verified, network, logs,
):  # fmt: skip
    _module.add_to(app)
