"""``ringrift describe``: what a stage takes and answers."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ringrift_ops.cli import options as o


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("describe")(describe)


def describe(
    stage: Annotated[str, typer.Argument(help="A stage, or a runbook's name for it.")],
    as_json: o.AsJson = False,
) -> None:
    """Show the fields of a stage's spec and of its result."""
    from ringrift_ops.cli.output import print_json, print_table
    from ringrift_ops.settings import stage_named
    from ringrift_ops.stages.specs import RESULTS, SPECS

    named = stage_named(stage)
    models = {"spec": SPECS[named], "result": RESULTS[named]}
    if as_json:
        print_json({title: model.model_json_schema() for title, model in models.items()})
        return
    for title, model in models.items():
        print(f"{named} {title}:")
        rows = [
            (f"  {name}", _type_text(field.annotation), "required" if field.is_required() else repr(field.default),
             field.description or "")
            for name, field in model.model_fields.items()
        ]  # fmt: skip
        print_table(("  field", "type", "default", "meaning"), rows)
        print()


def _type_text(annotation: Any) -> str:
    text = (
        annotation.__name__ if isinstance(annotation, type) and not hasattr(annotation, "__args__") else str(annotation)
    )
    return text.replace("typing.", "").replace("ringrift_ops.stages.specs.", "")
