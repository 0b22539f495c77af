"""``ringrift retention plan`` and ``retention apply``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from ringrift_ops.cli import options as o
from ringrift_ops.cli.control import Reason, asker

if TYPE_CHECKING:
    from ringrift_ops.operations.retention import RetentionPlan


def add_to(app: typer.Typer) -> None:
    """Register the group."""
    group = typer.Typer(help="The one job that removes files, by a plan that is shown first.", no_args_is_help=True)
    group.command("plan")(plan)
    group.command("apply")(apply)
    app.add_typer(group, name="retention")


def plan(as_json: o.AsJson = False) -> None:
    """Show what may be removed and why, and what stays though it is old; changes nothing."""
    from ringrift_ops.operations.retention import retention_plan
    from ringrift_ops.platform.database import AirflowTables
    from ringrift_ops.platform.facts import controls

    found = controls()
    _show(retention_plan(found.home, found.ledger, tables=AirflowTables.of(found.home)), as_json=as_json, done=False)


def apply(reason: Reason = "", as_json: o.AsJson = False) -> None:
    """Remove what the plan of this moment names."""
    from ringrift_ops.operations.retention import apply as remove
    from ringrift_ops.platform.database import AirflowTables
    from ringrift_ops.platform.facts import controls

    found = controls()
    tables = AirflowTables.of(found.home)
    _show(remove(found.home, found.ledger, asker(reason), tables=tables), as_json=as_json, done=True)


def _show(found: RetentionPlan, *, as_json: bool, done: bool) -> None:
    from ringrift_ops.cli.output import print_json, print_table

    if as_json:
        print_json({"removals": found.removals, "kept": found.kept, "bytes": found.bytes,
                    "airflow_rows": found.rows, "airflow_rows_before": found.rows_before, "done": done})  # fmt: skip
        return
    rows = [(one.kind, f"{one.bytes / 1e6:.1f} MB", one.path, one.why) for one in found.removals]
    print_table(("what", "size", "where", "why"), rows)
    kept = [(kind, count, why) for kind, whys in found.kept.items() for why, count in whys.items()]
    print()
    print_table(("kept", "how many", "why"), kept)
    if found.rows_before is not None:
        tables = ", ".join(f"{table} {count}" for table, count in found.rows.items()) or "none"
        print(f"\nrows of Airflow's database from before {found.rows_before:%Y-%m-%d}: {tables}")
    print(f"\n{len(rows)} things, {found.bytes / 1e6:.1f} MB, {'were removed' if done else 'may be removed'}")
