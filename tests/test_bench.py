"""The bench keeps what it measured: rows by part, a table that says no more than they do, a floor that holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.bench.figures import DOCS, JSON_NAME, TABLE_NAME, Row, number, publish, read_rows, table
from tests.bench.machine import Machine
from tests.bench.rules import peer_name, playout_name, too_slow


def row(name: str, figure: float | None, part: str = "rules", **rest: Any) -> Row:
    facts = {
        "machine": Machine(cpu="some", cores=2, load=0.0),
        "python": "3.11",
        "date": "2026-01-01T00:00:00+00:00",
        "commit": "c",
    }
    return Row(
        name=name, part=part, figure=figure, unit="steps/s", command="python -m tests.bench", **{**facts, **rest}
    )


def line_of(rows: list[Row], name: str) -> str:
    return next(line for line in table(rows).splitlines() if line.startswith(f"| {name} "))


def test_a_figure_stands_beside_its_target_and_its_peer_of_the_same_run() -> None:
    peer = row(peer_name("checkers"), 500_000.0, "peers")
    mine = row("play-outs square8_2p", 2_000_000.0, target=3_000_000.0, peer=peer.name)
    shown = line_of([mine, peer], mine.name)
    for cell in ("2.00 M", "≥ 3.00 M", "**no**", peer.name, "500,000", "4.00"):
        assert f"| {cell} |" in shown


def test_a_peer_of_another_run_gives_no_ratio() -> None:
    peer = row(peer_name("checkers"), 500_000.0, "peers", date="2026-01-01T00:00:01+00:00")
    mine = row("play-outs square8_2p", 2_000_000.0, peer=peer.name)
    assert "4.00" not in line_of([mine, peer], mine.name)


def test_what_could_not_be_measured_has_not_reached_its_target() -> None:
    assert row("cold", None, target=60.0, better="lower").reached is False
    assert row("cold", 59.0, target=60.0, better="lower").reached is True
    assert row("cold", 59.0).reached is None
    assert number(None) == "-"


def test_figures_measured_beside_other_work_are_marked(tmp_path: Path) -> None:
    busy = Machine(cpu="some", cores=2, load=3.0)
    assert "not final:** rules" in table([row("a", 1.0, machine=busy)])
    assert "not final" not in table([row("a", 1.0)])


def test_measuring_one_part_leaves_the_others_as_they_are(tmp_path: Path) -> None:
    publish([row("a", 1.0), row("b", 2.0)], ["rules"], tmp_path)
    publish([row("m", 3.0, "memory")], ["memory"], tmp_path)
    publish([row("a", 4.0)], ["rules"], tmp_path)
    assert [(one.name, one.figure) for one in read_rows(tmp_path / JSON_NAME)] == [("a", 4.0), ("m", 3.0)]
    assert json.loads((tmp_path / JSON_NAME).read_text())[0]["machine"]["cores"] == 2
    assert (tmp_path / TABLE_NAME).read_text() == table(read_rows(tmp_path / JSON_NAME))


def test_a_small_two_player_board_below_the_floor_is_named() -> None:
    fast, slow = row(playout_name("hex8_2p"), 1_200_000.0), row(playout_name("square8_2p"), 900_000.0)
    large = row(playout_name("square19_2p"), 300_000.0)
    assert [line.split(":")[0] for line in too_slow([fast, slow, large])] == ["square8_2p"]


def test_the_page_in_the_docs_is_made_from_the_figures_in_the_docs() -> None:
    assert (DOCS / JSON_NAME).exists() == (DOCS / TABLE_NAME).exists()
    if (DOCS / JSON_NAME).exists():
        assert (DOCS / TABLE_NAME).read_text() == table(read_rows(DOCS / JSON_NAME))
