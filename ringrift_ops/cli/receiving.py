"""``ringrift cluster check``: why a host gets no jobs (R71)."""

from __future__ import annotations

import typer

from ringrift_ops.cli import cluster
from ringrift_ops.cli import options as o
from ringrift_ops.cli.output import print_json, print_table


def add_to(app: typer.Typer) -> None:
    """Register the verb in the group ``cluster``."""
    cluster.app.command("check")(check)


def check(host: cluster.HostNames = None, as_json: o.AsJson = False) -> None:
    """Show whether hosts get jobs, and why not: registration, capabilities, health. 4 when one gets none."""
    from ringrift_ops.errors import ExitCode
    from ringrift_ops.ledger import Ledger
    from ringrift_ops.operations.nodes import receiving
    from ringrift_ops.stages.hosting import Hosting

    home, _ = cluster.inventory()
    found = receiving(Hosting(home, Ledger.open()), [] if host is None else [host])
    if as_json:
        print_json({"hosts": found})
    else:
        rows = [
            [
                one.host,
                one.way,
                "yes" if one.receives else "no",
                "yes" if one.registered else "no",
                None if one.heard_seconds is None else f"{one.heard_seconds:.0f} s ago",
                f"{one.running} of {one.capacity}",
                " ".join(one.stages),
                " ".join(one.capabilities),
            ]
            for one in found
        ]
        print_table(("host", "by", "gets jobs", "registered", "heard of", "jobs", "stages", "can"), rows)
        for one in found:
            print("\n".join(one.findings), end="\n" if one.findings else "")
    raise typer.Exit(ExitCode.DONE if all(one.receives for one in found) else ExitCode.INFRASTRUCTURE)
