"""How the runbook pages are read and compared, and what holds of all of them without a platform."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ringrift_ops.operations.alerts import Alert, Rule
from ringrift_ops.operations.causes import BY_NAME
from ringrift_ops.operations.sections import FOLDER, OF_ALERTS, OF_CAUSES, anchor, page_of, text_of
from tests.runbooks import pages
from tests.runbooks.ground import Ground
from tests.runbooks.pages import Step
from tests.runbooks.situations import SITUATIONS

PAGE = """# A page

| R1 | a row | is no section |

## Nothing runs
<!-- situation: quiet -->

```console
$ ringrift lock \\
  --json
[]
$ ringrift health
(exit code 1)
```

Then:

<!-- wait: over -->
```console
$ ringrift status
```

## Words only

```
$ ringrift up
```
"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.md"
    path.write_text(PAGE)
    return path


def test_a_section_is_its_commands_what_they_print_and_what_is_waited_for(page: Path) -> None:
    (section,) = pages.sections(page)
    assert (section.title, section.situation) == ("Nothing runs", "quiet")
    lock, health, status = section.steps
    assert (lock.command, lock.shown) == ("ringrift lock \\\n  --json", ("[]",))
    assert (health.shown, status.wait) == (("(exit code 1)",), "over")
    assert pages.consoles_outside(page) == []
    page.write_text("## No situation\n\n```console\n$ ringrift up\n```\n")
    assert pages.consoles_outside(page) == [3]


def test_real_output_is_written_below_its_command_and_nowhere_else(page: Path) -> None:
    (section,) = pages.sections(page)
    pages.rewrite(section, {0: ["one", "two"], 2: ["three"]})
    (again,) = pages.sections(page)
    assert [step.shown for step in again.steps] == [("one", "two"), ("(exit code 1)",), ("three",)]
    rest = [line for line in page.read_text().splitlines() if line not in ("one", "two", "three")]
    assert rest == [line for line in PAGE.splitlines() if line != "[]"]


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("at 2026-11-25T20:15:00+00:00, 3 games", "at 2026-11-26T01:02:03.123456+00:00, 4,000 games", True),
        ("net 3fa9c1d2e8 of hex8_2p-g1-train", "net 00a9c1d2e8 of hex8_2p-g12-train", True),
        ("config     state", "config state", True),
        ("hex8_2p", "hex8_3p", False),
        ("lease  free", "lease  held", False),
        ("(exit code 1)", "(exit code 4)", False),
        ("loss 1.5e-3", "loss nan", False),
        ("reason ... inconclusive", "reason random: inconclusive", True),
        ("reason ... inconclusive", "reason random: inferior", False),
        ("two", "two\nthree", False),
        ("one\n...\nthree", "one\nthree", True),
        ("one\n...\nthree", "one\n2\ntwo\nthree", True),
        ("one\n...\nthree", "one\n2\ntwo", False),
        ("", "a line", False),
        ("", "", True),
    ],
)
def test_output_is_compared_by_words_columns_and_exit_code(shown: str, printed: str, same: bool) -> None:
    assert pages.fits(Step("x", tuple(shown.splitlines()), 1), printed.splitlines()) is same


def test_a_command_runs_as_a_person_types_it_and_its_code_is_its_last_line(tmp_path: Path) -> None:
    printed = pages.run("echo $WORD; pwd; ringrift --no-such-option 2> /dev/null", tmp_path, {"WORD": "hello"})
    assert printed == ["hello", str(tmp_path), "(exit code 2)"]


def test_every_command_that_runs_stands_in_a_section_with_a_situation_that_there_is() -> None:
    found = [section for one in pages.pages() for section in pages.sections(one)]
    assert {one.page.stem for one in found} == {
        "first-day", "pipeline-stage-failures", "training-loop-stalled", "training-failures", "model-promotion",
        "pipeline-orchestrator",
    }  # fmt: skip
    assert [one.name for one in found if one.situation not in SITUATIONS or not one.steps] == []
    assert set(SITUATIONS) == {one.situation for one in found}, "a situation that no page describes"
    assert [(one.name, line) for one in pages.pages() for line in pages.consoles_outside(one)] == []
    waited = {step.wait for one in found for step in one.steps if step.wait is not None}
    assert waited <= set(Ground.WAITS)


def places(page: Path) -> set[str]:
    lines = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE).splitlines()
    return {anchor(line.lstrip("# ")) for line in lines if line.startswith("#")}


@pytest.mark.parametrize("page", sorted((pages.PROJECT / "docs").rglob("*.md")), ids=lambda path: path.stem)
def test_every_link_of_a_page_leads_to_a_section_that_there_is(page: Path) -> None:
    wrong = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        name, _, wanted = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not link.startswith("http") and (not target.exists() or (wanted and wanted not in places(target))):
            wrong.append(link)
    assert wrong == []


def test_R11_every_cause_and_every_alert_leads_to_a_section_that_there_is() -> None:
    assert set(OF_CAUSES) <= set(BY_NAME)
    assert set(OF_ALERTS) == set(Rule)
    assert [place for place in (*OF_CAUSES.values(), *OF_ALERTS.values()) if not text_of(place)] == []
    for subject in ("disk of here", "memory of here"):
        alert = Alert(Rule.RESOURCE_USE, None, subject, "full", "97 %", "`ringrift retention plan`")
        place = page_of(alert).removeprefix(f"{FOLDER}/")
        assert text_of(place).startswith("## A full disk" if "disk" in subject else "## Out of memory")
