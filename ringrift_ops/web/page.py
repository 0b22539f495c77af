"""The status for people: one page made here, without a script (R1). Every value is escaped."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from ringrift_ops.operations.health import Health
from ringrift_ops.operations.overview import Overview
from ringrift_ops.settings import WEB


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("status.html")


def html(found: Overview, health: Health) -> str:
    """Return the page."""
    return _template().render(found=found, health=health, refresh=WEB.refresh_seconds)
