"""Every command of the runbook pages is typed on a running platform, in the situation that its section describes.

`REWRITE_RUNBOOK_PAGES=1 make test-runbooks ARGS=tests/runbooks` writes what was printed into the pages instead.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runbooks import pages
from tests.runbooks.ground import Ground
from tests.runbooks.pages import Section
from tests.runbooks.situations import SITUATIONS

pytestmark = [pytest.mark.runbooks_campaign, pytest.mark.timeout(900)]

REWRITE = "REWRITE_RUNBOOK_PAGES"
SECTIONS = [section for page in pages.pages() for section in pages.sections(page)]


@pytest.mark.parametrize("section", SECTIONS, ids=[section.name for section in SECTIONS])
def test_a_section_of_the_runbooks_runs_as_it_stands(section: Section, ground: Ground) -> None:
    outputs: dict[int, list[str]] = {}
    ground.calm()
    with SITUATIONS[section.situation](ground) as variables:
        for place, step in enumerate(section.steps):
            if step.wait is not None:
                ground.wait(step.wait)
            printed = shown_as(pages.run(step.command, ground.folder, ground.environment | variables), ground)
            if not pages.fits(step, printed):
                outputs[place] = printed
    if outputs and os.environ.get(REWRITE):
        pages.rewrite(section, outputs)
        pytest.skip(f"written anew below {len(outputs)} of {len(section.steps)} commands")
    assert not outputs, "\n".join(told(section, outputs))


def told(section: Section, outputs: dict[int, list[str]]) -> Iterator[str]:
    """Say which commands printed something else than their page shows."""
    for place, printed in outputs.items():
        step = section.steps[place]
        yield f"{section.page.name}:{step.line}: $ {step.command}"
        yield from (f"  shown   {one}" for one in pages.shape(step.shown))
        yield from (f"  printed {one}" for one in pages.shape(printed))


def shown_as(lines: list[str], ground: Ground) -> list[str]:
    """Return lines with paths as they are in a checkout."""
    places = {str(ground.home.root): ".ringrift", f"{Path.cwd()}/": "", str(ground.folder): "."}
    for place, name in places.items():
        lines = [line.replace(place, name) for line in lines]
    return lines
