"""Move keys and RingRift's move JSON (pipeline-facts 1.3)."""

from __future__ import annotations

import json

import pytest

from ringrift_ops.games.contract import CONTRACT, NonCanonicalError, check_key, phase_of
from ringrift_ops.rules.boards import BOARDS, UnknownBoardError
from ringrift_ops.rules.move_json import (
    LEGACY_TYPES,
    KeylessMoveError,
    MoveJsonError,
    MoveKeyError,
    NonCanonicalMoveTypeError,
    move_type_of,
    short_key,
    translator,
)
from tests.games.traces import CONFIGS, needs_traces, raw_games, records


def as_json(board: str, key: str, player: int = 1, **options):
    return json.loads(translator(board).to_json(key, player, game_id="g", move_number=6, **options))


def test_a_placement_is_written_as_in_the_composed_example():
    assert as_json("square8", "P3,4*2", placed_on_stack=False, think_ms=12) == {
        "id": "g-m6", "type": "place_ring", "player": 1, "from": None, "to": {"x": 3, "y": 4},
        "placementCount": 2, "placedOnStack": False, "thinkTime": 12, "moveNumber": 7,
    }  # fmt: skip


def test_a_hex_capture_has_cube_triples_and_its_target():
    assert as_json("hexagonal", "C-2,1>0,-1>2,-3", 2) == {
        "id": "g-m6", "type": "overtaking_capture", "player": 2, "from": {"x": -2, "y": 1, "z": 1},
        "to": {"x": 2, "y": -3, "z": 1}, "captureTarget": {"x": 0, "y": -1, "z": 1}, "moveNumber": 7,
    }  # fmt: skip


@pytest.mark.parametrize("key", ["-P", "0P", "SW", "-C", "0M", "-R", "0L", "-T", "0T"])
def test_bookkeeping_moves_have_no_geometry(key):
    move = as_json("hex8", key)
    assert move["from"] is None
    assert move["to"] is None
    assert set(move) == {"id", "type", "player", "from", "to", "moveNumber"}


@pytest.mark.parametrize(
    ("board", "key", "cells", "direction"),
    [
        ("square8", "O0,3/1,2/2,1=1,2/2,1", [(0, 3), (1, 2), (2, 1)], {"x": 1, "y": -1}),
        ("hex8", "O0,-1/0,0/0,1=0,0/0,1", [(0, 1), (0, 0), (0, -1)], {"x": 0, "y": -1, "z": 1}),
        ("hex8", "O-1,1/0,0/1,-1=0,0/1,-1", [(-1, 1), (0, 0), (1, -1)], {"x": 1, "y": -1, "z": 0}),
    ],
)
def test_a_line_choice_names_the_whole_line_its_direction_and_what_collapses(board, key, cells, direction):
    move = as_json(board, key, 2)
    line = move["formedLines"][0]
    assert [(p["x"], p["y"]) for p in line["positions"]] == cells
    assert line["player"] == 2
    assert line["length"] == 3
    assert line["direction"] == direction
    chosen = key.split("=")[1].split("/")
    assert [f"{p['x']},{p['y']}" for p in move["collapsedMarkers"]] == chosen


def test_a_region_belongs_to_the_mover_never_to_zero():
    move = as_json("square8", "T0,0/0,1/1,0", 2)
    assert move["disconnectedRegions"] == [
        {"spaces": [{"x": 0, "y": 0}, {"x": 0, "y": 1}, {"x": 1, "y": 0}], "controllingPlayer": 2,
         "isDisconnected": True}
    ]  # fmt: skip
    assert move["to"] in move["disconnectedRegions"][0]["spaces"]
    move["disconnectedRegions"][0]["controllingPlayer"] = 0
    with pytest.raises(MoveJsonError, match="controllingPlayer"):
        translator("square8").read(move)


@pytest.mark.parametrize(
    ("key", "fields"),
    [
        ("R0,0>1,0:1:3,-1", {"recoveryMode": "line", "recoveryOption": 1, "extractionStacks": ["3,-1,-2"]}),
        ("R0,0>1,0:F:3,-1", {"recoveryMode": "fallback", "extractionStacks": ["3,-1,-2"]}),
        ("R0,0>1,0:S:0,0", {"recoveryMode": "stack_strike", "extractionStacks": ["0,0,0"]}),
        (
            "R0,0>1,0:2:1,0/2,0/3,0",
            {
                "recoveryMode": "line",
                "recoveryOption": 2,
                "extractionStacks": [],
                "collapsePositions": [{"x": x, "y": 0, "z": -x} for x in (1, 2, 3)],
            },
        ),
    ],
)
def test_recoveries_name_their_extraction_stack_as_a_position_key(key, fields):
    move = as_json("hex8", key)
    assert {name: move[name] for name in fields} == fields
    assert ("recoveryOption" in move) == ("recoveryOption" in fields)
    assert translator("hex8").read(move).key == key


def test_eliminations_carry_their_context_and_the_count_where_it_is_known():
    assert as_json("square8", "E0,0:l")["eliminatedRings"] == [{"player": 1, "count": 1}]
    assert as_json("square8", "E0,0:r")["eliminationContext"] == "recovery"
    assert as_json("square8", "E0,0:t", cap=4)["eliminatedRings"] == [{"player": 1, "count": 4}]
    assert as_json("square8", "X7,7")["eliminationContext"] == "forced"
    without = {"type": "eliminate_rings_from_stack", "player": 1, "to": {"x": 0, "y": 0}}
    assert translator("square8").read(without).key == "E0,0:t"


@pytest.mark.parametrize("board", BOARDS)
def test_F20_every_cell_comes_back_the_origin_and_the_corners_too(board):
    text = translator(board)
    for cell in text.cells:
        for key in (f"P{cell}*1", f"X{cell}", f"T{cell}", f"E{cell}:t"):
            assert text.to_key(text.to_json(key, 1, game_id="g", move_number=0)).key == key


@needs_traces
@pytest.mark.parametrize("config", CONFIGS)
def test_every_recorded_and_every_legal_move_comes_back(config):
    text = translator(config.rpartition("_")[0])
    tried = set()
    for game in list(raw_games(config))[:4]:
        for step in game["trace"]:
            for key in {step["m"], *step.get("l", "").split()} - tried:
                if key[0] != "T":
                    tried.add(key)
                    assert text.to_key(text.to_json(key, step["p"], game_id="g", move_number=0))[:2] == (key, step["p"])
    for record in records(config, 1):
        for key in record.moves:
            assert text.to_key(text.to_json(key, 1, game_id="g", move_number=0)).key == key


@pytest.mark.parametrize(
    "key",
    ["P8,0*1", "P0,0*4", "P0,0", "P00,0*1", "M0,0", "C0,0>1,1", "T1,0/0,0", "T0,0/0,0", "T0,0:3:abcdef01", "L0,0/2,0",
     "L0,0/1,1/2,1", "O0,0/1,0/2,0=3,0", "E0,0:x", "R0,0>1,0:9:0,0", "X-1,0", "", "Q", "0X"],
)  # fmt: skip
def test_F20_a_key_that_is_none_is_refused(key):
    with pytest.raises(MoveKeyError):
        translator("square8").to_json(key, 1, game_id="g", move_number=0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"to": None}, "to is missing"),
        ({"to": {"x": 8, "y": 0}}, "not a cell"),
        ({"to": {"x": 1, "y": 2, "z": -3}}, "not a cell"),
        ({"to": {"x": 1.0, "y": 2}}, "not a cell"),
        ({"placementCount": 4}, "placementCount"),
        ({"placementCount": True}, "placementCount"),
        ({"player": 0}, "not a seat"),
        ({"player": "1"}, "not a seat"),
    ],
)
def test_F20_move_json_without_what_a_replay_needs_is_refused(change, says):
    with pytest.raises(MoveJsonError, match=says):
        translator("square8").read(as_json("square8", "P1,2*1") | change)


def test_F20_extraction_stacks_must_be_position_keys():
    move = as_json("square8", "R0,0>1,0:F:3,1")
    for stacks in ([{"x": 3, "y": 1}], ["3,1,-4"], ["3,1", "4,1"], [], None):
        with pytest.raises(MoveJsonError, match="extraction"):
            translator("square8").read(move | {"extractionStacks": stacks})


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"P0,0*1"', '{"type":"place_ring"}', b"\xff"])
def test_text_that_is_no_move_is_a_named_error(text):
    with pytest.raises(MoveJsonError):
        translator("square8").to_key(text)


@pytest.mark.parametrize("name", [*LEGACY_TYPES, *(name.upper() for name in LEGACY_TYPES)])
def test_legacy_type_names_are_refused_with_RingRifts_reason_and_mapped_on_request(name):
    now = LEGACY_TYPES[name.lower()]
    keys = {"move_stack": "M0,0>1,0", "choose_line_option": "O0,0/1,0/2,0=0,0/1,0", "process_line": "L0,0/1,0/2,0",
            "choose_territory_option": "T0,0"}  # fmt: skip
    move = as_json("square8", keys[now]) | {"type": name}
    with pytest.raises(NonCanonicalMoveTypeError, match=f"non_canonical_move_type:{name}.*{now}"):
        translator("square8").read(move)
    assert translator("square8").read(move, legacy=True).key == keys[now]


def test_resign_and_timeout_are_canonical_but_cannot_be_replayed():
    with pytest.raises(KeylessMoveError, match="resign"):
        translator("square8").read({"type": "resign", "player": 1})


def test_an_unknown_board_is_named():
    with pytest.raises(UnknownBoardError, match="square9"):
        translator("square9")


@pytest.mark.parametrize(
    ("key", "short"),
    [
        ("P-4,4*3", "place_ring_-4,4"),
        ("M0,0>2,0", "move_stack_0,0_2,0"),
        ("C0,0>1,0>3,0", "overtaking_capture_0,0_3,0"),
        ("R0,0>1,0:2:0,0/1,0", "recovery_slide_0,0_1,0"),
        ("T0,1/0,2", "choose_territory_option_0,1"),
        ("0L", "no_line_action"),
        ("E1,2:l", "eliminate_rings_from_stack_1,2"),
    ],
)
def test_short_keys_of_move_probs(key, short):
    assert short_key(key) == short


def test_every_key_of_the_contract_is_accepted_in_its_phase_only():
    keys = ["P0,0*1", "-P", "0P", "SW", "M0,0>1,0", "C0,0>1,0>2,0", "K0,0>1,0>2,0", "-C", "0M", "-R", "R0,0>1,0:F:2,0",
            "L0,0", "O0,0=0,0", "0L", "E0,0:l", "T0,0", "-T", "0T", "X0,0"]  # fmt: skip
    codes = dict(zip(CONTRACT, ["RP", "MV", "CA", "CC", "LP", "TP", "FE"], strict=True))
    for phase, types in CONTRACT.items():
        for key in keys:
            if move_type_of(key) in types:
                assert check_key(codes[phase], key, "here") == (phase, move_type_of(key))
            else:
                with pytest.raises(NonCanonicalError, match=f"phase_move_mismatch:{phase}:{move_type_of(key)} at here"):
                    check_key(codes[phase], key, "here")


@pytest.mark.parametrize(
    ("phase", "move_type", "reason"),
    [
        ("ring_movement", "move_stack", "non_canonical_phase:ring_movement"),
        ("movement", "move_ring", "non_canonical_move_type:move_ring"),
        ("", "resign", "missing_phase_for_meta_move:resign"),
        ("capture", "move_stack", "phase_move_mismatch:capture:move_stack"),
    ],
)
def test_the_four_rejection_reasons_are_RingRifts_words(phase, move_type, reason):
    with pytest.raises(NonCanonicalError) as caught:
        phase_of(phase, move_type, "game g, move 3")
    assert caught.value.reason == reason
    assert "game g, move 3" in str(caught.value)


@pytest.mark.parametrize(
    ("move_type", "phase"),
    [
        ("overtaking_capture", "movement"),
        ("eliminate_rings_from_stack", "line_processing"),
        ("swap_sides", "ring_placement"),
    ],
)
def test_a_blank_phase_and_game_over_are_inferred_from_the_type_the_earlier_phase_wins(move_type, phase):
    assert phase_of("", move_type, "here") == phase == phase_of("game_over", move_type, "here")
