"""``rules/conform.py`` and ``ringrift rules conform``: 0 differences with what RingRift's own engine recorded, and
every planted difference is found and shown."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ringrift_ops.cli import main
from ringrift_ops.errors import ExitCode
from ringrift_ops.players.breakdown import recorded_breakdown
from ringrift_ops.rules.conform import PythonEngine, compare_file
from ringrift_ops.rules.recordings import RecordingBrokenError, RecordingMissingError, read_recordings

DATA = Path(__file__).parents[1] / "data"
SAMPLE = sorted(DATA.glob("*.jsonl.gz"))
ENGINE = PythonEngine(recorded_breakdown)


def _lines(name: str) -> list[dict[str, Any]]:
    with gzip.open(DATA / name, "rt") as file:
        return [json.loads(line) for line in file]


def _write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.mark.parametrize("path", SAMPLE, ids=[path.name.removesuffix(".jsonl.gz") for path in SAMPLE])
def test_the_sample_of_recordings_agrees(path: Path) -> None:
    report = compare_file(path, ENGINE)
    assert report.first is None, report.first.in_words()
    assert report.ok


def test_the_sample_covers_every_config_and_all_three_formats() -> None:
    configs = {f"{line.board}_{line.players}p" for path in SAMPLE for line in read_recordings(path)}
    shapes = {line.shape for path in SAMPLE for line in read_recordings(path)}
    assert len(configs) == 12
    assert shapes == {"game", "position", "evaluation"}


@pytest.mark.slow
def test_all_766_games_2843_positions_and_558_evaluations_agree(shared: Path) -> None:
    folder = shared / "conformance"
    games = positions = evaluations = 0
    for path in [*sorted(folder.glob("*.jsonl.gz")), *sorted((folder / "positions").glob("*.jsonl.gz"))]:
        report = compare_file(path, ENGINE)
        assert report.first is None, report.first.in_words()
        games, positions = games + report.games, positions + report.positions
        evaluations += report.evaluations
    assert (games, positions, evaluations) == (766, 2843, 558)


def _drop_a_legal_move(game: dict[str, Any]) -> str:
    step = game["trace"][0]
    step["l"] = " ".join(step["l"].split(" ")[1:])
    return "legal moves"


def _another_state(game: dict[str, Any]) -> str:
    game["trace"][3]["s"] = game["trace"][3]["s"].replace(";g0/0", ";g0/1")
    return "state after: territory"


def _another_hash(game: dict[str, Any]) -> str:
    next(step for step in game["trace"] if "eh" in step)["eh"] = "0" * 16
    return "fingerprint hash (eh)"


def _another_winner(game: dict[str, Any]) -> str:
    game["result"]["winner"] = 3 - game["result"]["winner"]
    return "result: winner"


def _an_early_victory(game: dict[str, Any]) -> str:
    game["trace"][5]["ev"] = "1:ring_elimination"
    return "early victory (ev)"


def _an_illegal_move(game: dict[str, Any]) -> str:
    game["trace"][0]["m"] = "P9,9*1"
    return "move"


def _another_phase(game: dict[str, Any]) -> str:
    game["trace"][2]["ph"] = "CC"
    return "phase before"


@pytest.mark.parametrize(
    "plant",
    [_drop_a_legal_move, _another_state, _another_hash, _another_winner, _an_early_victory, _an_illegal_move,
     _another_phase],
)  # fmt: skip
def test_a_planted_difference_is_found_and_named(plant: Callable[[dict[str, Any]], str], tmp_path: Path) -> None:
    game = _lines("square8_2p.jsonl.gz")[0]
    what = plant(game)
    report = compare_file(_write(tmp_path / "planted.jsonl", [game]), ENGINE)
    assert report.differences == 1
    assert report.first is not None
    assert what in [one.field for one in report.first.fields]
    assert str(tmp_path / "planted.jsonl:1") in report.first.in_words()


def test_a_missing_move_of_a_position_is_shown_as_missing_or_extra(tmp_path: Path) -> None:
    position = _lines("positions.jsonl.gz")[0]
    position["l"] += " P0,0*9"
    report = compare_file(_write(tmp_path / "p.jsonl", [position]), ENGINE)
    assert report.first is not None
    assert report.first.fields[0].missing == ("P0,0*9",)
    assert report.first.fields[0].extra == ()


def test_a_wrong_term_is_a_difference_and_rounding_is_not(tmp_path: Path) -> None:
    near, far = (_lines("evaluations.jsonl.gz")[0] for _ in range(2))
    near["ev"]["total"] *= 1 + 1e-12
    far["ev"]["mobility"] += 1e-6
    report = compare_file(_write(tmp_path / "e.jsonl", [near, far]), ENGINE)
    assert (report.evaluations, report.differences) == (2, 1)
    assert report.first is not None
    assert report.first.fields[0].field == "term mobility"


def _truncated(path: Path) -> bytes:
    return path.read_bytes()[:-2000]


def _game(**fields: Any) -> bytes:
    record = {
        "board": "hex8", "players": 2, "init": "", "trace": [{"p": 1, "ph": "RP", "m": "0P", "l": "", "s": ""}],
        "result": {"winner": 1, "reason": ""},
    }  # fmt: skip
    return json.dumps(record | fields).encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{not json\n", r":1: not JSON"),
        (b"[]\n", r":1: a record is a JSON object"),
        (b'{"board": "hex8"}\n', r":1: neither a game"),
        (b'{"after": [], "board": "hex8", "players": 2, "s": "x"}\n', r":1: the field 'l' is missing"),
        (b'{"after": [], "board": "hex8", "players": 7, "s": "x", "l": ""}\n', r":1: no config is called hex8 with 7"),
        (b'{"after": [], "board": "hex8", "players": 2, "s": "p1;x", "l": ""}\n', r":1: a state string has 15 fields"),
        (b'\n{"trace": [{"p": 1}], "board": "hex8", "players": 2, "init": "", "result": {}}\n', r":2: step 0"),
        (_game(trace=[]), r":1: a game without a step"),
        (_game(result={"winner": 1}), r":1: result: the field 'reason' is missing"),
        (b"[" * 100_000, r":1: not JSON"),
        (b"\xff\xfe\x00\x01", r"not text"),
        (_truncated(DATA / "hex8_2p.jsonl.gz"), r":\d+: the gzip stream is cut short"),
        (b"\x1f\x8bnonsense", r"damaged gzip"),
    ],
)  # fmt: skip
def test_a_broken_file_is_named_with_its_line_F19(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_bytes(content)
    with pytest.raises(RecordingBrokenError, match=message):
        compare_file(path, ENGINE)


def test_a_missing_file_is_no_data() -> None:
    with pytest.raises(RecordingMissingError, match=r"nowhere\.jsonl: No such file"):
        compare_file(Path("nowhere.jsonl"), ENGINE)


def test_the_command_exits_0_on_agreement_1_on_a_difference_and_3_when_nothing_was_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = str(DATA / "square8_2p.jsonl.gz")
    assert main(["rules", "conform", good, "--engine", "both"]) == ExitCode.DONE
    assert "2 games" in capsys.readouterr().out
    game = _lines("square8_2p.jsonl.gz")[0]
    _another_winner(game)
    bad = str(_write(tmp_path / "bad.jsonl", [game]))
    assert main(["rules", "conform", good, bad, "--engine", "python", "--json"]) == ExitCode.GATE_SAID_NO
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"] is False
    assert [one["differences"] for one in answer["files"]] == [0, 1]
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    assert main(["rules", "conform", str(empty), "--engine", "python"]) == ExitCode.NO_DATA
    assert main(["rules", "conform", str(DATA / "evaluations.jsonl.gz"), "--engine", "typescript"]) == ExitCode.NO_DATA
    assert main(["rules", "conform", str(tmp_path / "none.jsonl"), "--engine", "python"]) == ExitCode.NO_DATA
    assert main(["rules", "conform", str(tmp_path), "--engine", "python"]) == ExitCode.NO_DATA
    capsys.readouterr()
    assert main(["rules", "conform", good, str(empty), "--engine", "python"]) == ExitCode.NO_DATA
    assert capsys.readouterr().err == f"{empty}: no record in it\n"


def test_evaluations_alone_agree_although_one_engine_has_no_evaluator(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "conform", str(DATA / "evaluations.jsonl.gz")]) == ExitCode.DONE
    assert "evaluations not compared: this engine has no evaluator" in capsys.readouterr().out
