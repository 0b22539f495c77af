"""The worked examples of RULES.md section 8, drawn."""

from __future__ import annotations

import pytest

from ringrift_ops.rules.game import State, game
from tests.rules.ascii_board import legal, play, position, seats, words

SQUARE = game("square8_2p")
SQUARE3 = game("square8_3p")
HEX3 = game("hex8_3p")


def _fields(state: State) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
    """(phase, eliminated, territory)."""
    text = SQUARE.state_string(state)
    return text.split(";")[1], seats(text, "x"), seats(text, "g")


MOVEMENT = """
    .  .  .  .  .  .  .  .
    .  .  .  .  .  .  .  .
    .  . 11 m1 m2 m2  . z2
    .  .  .  .  .  .  .  .
    .  .  .  .  .  .  .  .
    .  .  .  .  .  .  .  .
    .  .  .  .  .  .  .  .
    .  .  .  .  .  .  .  2
"""


def test_8_1_movement_flips_and_collapses_what_it_crosses() -> None:
    start = position(SQUARE, MOVEMENT)
    row = {key for key in legal(SQUARE, start) if key.startswith("M2,2>") and key.endswith(",2")}
    assert row == {"M2,2>4,2", "M2,2>5,2", "M2,2>6,2", "M2,2>0,2"}
    far = play(SQUARE, start, "M2,2>6,2")
    assert words(SQUARE, far) == {
        (2, 2): "m1", (3, 2): "z1", (4, 2): "m1", (5, 2): "m1", (6, 2): "11", (7, 2): "z2", (7, 7): "2",
    }  # fmt: skip
    assert _fields(far)[1:] == ((0, 0), (1, 1))


def test_8_1_landing_on_a_marker_costs_the_top_ring() -> None:
    after = play(SQUARE, position(SQUARE, MOVEMENT), "M2,2>5,2")
    assert words(SQUARE, after) == {
        (2, 2): "m1", (3, 2): "z1", (4, 2): "m1", (5, 2): "1", (7, 2): "z2", (7, 7): "2",
    }  # fmt: skip
    assert _fields(after)[1:] == ((1, 0), (1, 1))


def test_8_2_capture_and_compulsory_chain() -> None:
    start = position(SQUARE, ". .\n. 112\n. . .\n. . . 221")
    assert {key for key in legal(SQUARE, start) if key[0] == "C"} == {
        f"C1,1>3,3>{to}" for to in ("4,4", "5,5", "6,6", "7,7")
    }
    after = play(SQUARE, start, "C1,1>3,3>4,4")
    assert words(SQUARE, after) == {(1, 1): "m1", (4, 4): "1122", (3, 3): "21"}
    assert _fields(after)[0] == "CC"
    assert legal(SQUARE, after) == {"K4,4>3,3>0,0"}
    end = play(SQUARE, after, "K4,4>3,3>0,0")
    assert words(SQUARE, end) == {(4, 4): "m1", (1, 1): "z1", (0, 0): "11222", (3, 3): "1"}
    assert _fields(end) == ("LP", (0, 0), (1, 0))


def test_8_3_placement_beside_markers_and_collapsed_cells() -> None:
    start = position(SQUARE, ".  m2\nz2 222", phase="RP", hands=(3, 3))
    keys = legal(SQUARE, start)
    assert {k for k in keys if k.startswith("P0,0*")} == {"P0,0*1", "P0,0*2", "P0,0*3"}
    assert {k for k in keys if k.startswith(("P1,0*", "P0,1*"))} == set()
    assert {k for k in keys if k.startswith("P1,1*")} == {"P1,1*1"}
    assert words(SQUARE, play(SQUARE, start, "P1,1*1"))[1, 1] == "1222"


EXACT_LINE = """
    m1 m1 m1 1 . . . .
    . . . . . . . .
    . . . . . . . .
    . . . . . . . .
    . . . . . . . .
    . . . . . . . .
    . . . . . . 11 .
    . . . . . . . 2
"""


def test_8_4_an_exact_line_collapses_and_costs_one_ring() -> None:
    made = play(SQUARE, position(SQUARE, EXACT_LINE), "M3,0>3,3")
    line = "L0,0/1,0/2,0/3,0"
    assert legal(SQUARE, made) == {line}
    owing = play(SQUARE, made, line)
    assert _fields(owing) == ("LP", (0, 0), (4, 0))
    assert legal(SQUARE, owing) == {"E3,3:l", "E6,6:l"}
    paid = play(SQUARE, owing, "E6,6:l")
    assert words(SQUARE, paid)[6, 6] == "1"
    assert _fields(paid) == ("LP", (1, 0), (4, 0))
    assert legal(SQUARE, paid) == {"0L"}
    assert SQUARE.state_string(play(SQUARE, paid, "0L", "0T")).startswith("p2;RP;")


def test_8_5_an_overlength_line_offers_all_of_it_or_a_free_window() -> None:
    made = play(SQUARE, position(SQUARE, EXACT_LINE.replace("m1 1 .", "m1 m1 1").replace("11", ".")), "M4,0>4,4")
    five = "0,0/1,0/2,0/3,0/4,0"
    assert legal(SQUARE, made) == {f"O{five}={cells}" for cells in (five, five[:-4], five[4:])}
    after = play(SQUARE, made, f"O{five}={five[4:]}")
    assert words(SQUARE, after)[0, 0] == "m1"
    assert _fields(after) == ("TP", (0, 0), (4, 0))


REGION = """
    22  .  m1 m2 .  .  .  .
    .   .  m1 .  .  .  .  .
    m1  m1 .  .  .  .  .  .
    .   .  .  .  .  .  1  .
    .   .  .  .  .  .  .  .
    .   .  .  .  .  112 .  .
    m2  .  .  .  .  .  .  .
    .   .  .  .  .  .  .  2
"""


def test_8_6_a_region_takes_adjacent_markers_and_those_connected_to_them() -> None:
    start = position(SQUARE, REGION, phase="TP", memory="a")
    region = "T0,0/0,1/1,0/1,1"
    assert legal(SQUARE, start) == {region, "-T"}
    claimed = play(SQUARE, start, region)
    assert _fields(claimed)[1:] == ((2, 0), (9, 0))
    assert words(SQUARE, claimed)[3, 0] == "z1"
    assert words(SQUARE, claimed)[0, 6] == "m2"
    assert legal(SQUARE, claimed) == {"E5,5:t", "E6,3:t"}
    paid = play(SQUARE, claimed, "E5,5:t")
    assert words(SQUARE, paid)[5, 5] == "2"
    assert SQUARE.state_string(paid).startswith("p2;RP;")
    assert _fields(paid)[1] == (4, 0)


def test_8_7_cells_walled_off_by_collapsed_ones_are_a_region() -> None:
    picture = "12 z2\nz2 z2\n.\n.\n.\n. . . . . 2"
    for player, size in ((1, 60), (2, 1)):
        start = position(SQUARE, picture, phase="TP", player=player, memory="a")
        regions = [key for key in legal(SQUARE, start) if key[0] == "T"]
        assert [key.count("/") + 1 for key in regions] == [size]


def test_8_8_forced_elimination_ends_the_game_of_the_last_seat_with_rings() -> None:
    start = position(SQUARE, ".\n" * 3 + ". . . 11111112\n.\n.\n. . . . . . 2", phase="RP", hands=(0, 5))
    forced = play(SQUARE, start, "0P", "0M", "0L")
    assert legal(SQUARE, forced) == {"X3,3"}
    over = play(SQUARE, forced, "X3,3")
    result = SQUARE.result(over)
    assert result is not None
    assert (result.winner, result.reason, result.kind) == (2, "last_player_standing", "lps_sole_material")
    assert seats(SQUARE.state_string(over), "x") == (7, 0)


def test_8_9_recovery_makes_a_line_when_it_can() -> None:
    start = position(SQUARE, "m1 m1 m1 . .\n. . . 21 m1\n.\n.\n.\n.\n. . . . . . 22")
    assert legal(SQUARE, start) == {"R4,1>3,0:1:3,1", "-R"}
    after = play(SQUARE, start, "R4,1>3,0:1:3,1")
    assert words(SQUARE, after) == {**{(x, 0): "z1" for x in range(4)}, (3, 1): "2", (6, 6): "22"}
    assert _fields(after)[1:] == ((1, 0), (4, 0))


def test_8_9_recovery_falls_back_to_slides_and_a_strike() -> None:
    start = position(SQUARE, ".\n. . . 21\n.\n.\n.\n. . . . . m1\n. . . . . . 22")
    keys = legal(SQUARE, start)
    assert sum(":F:" in key for key in keys) == 7
    assert {key for key in keys if ":S:" in key} == {"R5,5>6,6:S:3,1"}
    after = play(SQUARE, start, "R5,5>6,6:S:3,1")
    assert words(SQUARE, after) == {(6, 6): "2", (3, 1): "2"}
    assert _fields(after)[1] == (2, 0)


def test_8_9_a_strike_may_pay_from_the_stack_it_struck() -> None:
    start = position(SQUARE, ".\n. . . 21\n. . . . m1\n.\n.\n.\n. . . . . . 22")
    after = play(SQUARE, start, "R4,2>3,1:S:3,1")
    assert words(SQUARE, after) == {(6, 6): "22"}
    assert _fields(after)[1] == (2, 0)


#     y -4            .  .  .  .  .
#     y -3          .  .  .  3  .  .        3 on (0,-3): x runs from -1 to 4
#     y -2        .  .  .  .  .  .  .
#     y -1      .  .  .  .  .  .  .  .
#     y  0    .  2  .  m1 m1 1  .  .  .     x from -4 to 4
HEX = """
    .  .  .  .  .
    .  3  .  .  .  .
    .  .  .  .  .  .  .
    .  .  .  .  .  .  .  .
    .  2  .  m1 m1 1  .  .  .
"""


def test_8_10_T5_on_hex8_with_three_players_a_run_of_three_is_no_line() -> None:
    start = position(HEX3, HEX)
    assert {(1, 0), (-3, 0), (0, -3)} <= set(words(HEX3, start))
    assert legal(HEX3, play(HEX3, start, "M1,0>1,1")) == {"0L"}


def test_8_10_T5_a_run_of_four_there_is_overlength() -> None:
    start = position(HEX3, HEX.replace("m1 m1 1  .", "m1 m1 m1 1"))
    made = play(HEX3, start, "M2,0>2,1")
    four = "-1,0/0,0/1,0/2,0"
    assert legal(HEX3, made) == {f"O{four}={cells}" for cells in (four, "-1,0/0,0/1,0", "0,0/1,0/2,0")}


def test_8_11_three_exclusive_rounds_win_for_the_seat_that_alone_can_act() -> None:
    # 1 and 3 hold buried rings only and never have a real action; 2 walks to and fro
    text = "p2;RP;A;m-;c-;e-;t-;h0/0/0;x0/0/0;g0/0/0;l2/010/{rounds};y-;s0,0:12 7,7:32;k;z"
    before = text.format(rounds="2/2").replace("p2;RP", "p1;TP")
    turn = play(SQUARE3, SQUARE3.parse_state(before), "0T")
    result = SQUARE3.result(turn)
    assert result is not None
    assert (result.winner, result.kind, result.by) == (2, "lps_rounds", "lps")
    too_early = play(SQUARE3, SQUARE3.parse_state(before.replace("2/2;y", "1/2;y")), "0T")
    assert SQUARE3.result(too_early) is None
    assert ";l2/-1-/2/2;" in SQUARE3.state_string(too_early)


def test_8_12_a_bare_board_is_decided_by_territory_then_rings_then_markers() -> None:
    picture = "z1 z1 z1 z1 z1\nz2 z2 z2 z2 z2\nm1 m1 m1 m2"
    start = position(SQUARE, picture, phase="TP", eliminated=(16, 16), memory="a")
    result = SQUARE.result(play(SQUARE, start, "0T"))
    assert result is not None
    assert (result.winner, result.reason) == (1, "last_player_standing")


GAME_START = [
    ("P3,3*1", 192, "p1;MV;A;m3,3;c-;e-;ta;h17/18;x0/0;g0/0;l0/--/0/0;y12;s3,3:1;k;z"),
    ("M3,3>3,5", 27, "p1;LP;A;m-;c-;e-;ta;h17/18;x0/0;g0/0;l0/--/0/0;y12;s3,5:1;k3,3:1;z"),
    ("0L", 1, "p1;TP;A;m-;c-;e-;ta;h17/18;x0/0;g0/0;l0/--/0/0;y12;s3,5:1;k3,3:1;z"),
    ("0T", 1, "p2;RP;A;m-;c-;e-;t-;h17/18;x0/0;g0/0;l2/-1/0/0;y12+;s3,5:1;k3,3:1;z"),
    ("SW", 188, "p2;RP;A;m-;c-;e-;ta;h17/18;x0/0;g0/0;l2/-1/0/0;y21;s3,5:1;k3,3:1;z"),
    ("P6,5*1", 187, "p2;MV;A;m6,5;c-;e-;ta;h17/17;x0/0;g0/0;l2/-1/0/0;y21;s3,5:1 6,5:2;k3,3:1;z"),
    ("C6,5>3,5>2,5", 22, "p2;LP;A;m-;c-;e-;ta;h17/17;x0/0;g0/0;l2/-1/0/0;y21;s2,5:12;k3,3:1 6,5:2;z"),
    ("0L", 1, "p2;TP;A;m-;c-;e-;ta;h17/17;x0/0;g0/0;l2/-1/0/0;y21;s2,5:12;k3,3:1 6,5:2;z"),
    ("0T", 1, "p1;RP;A;m-;c-;e-;t-;h17/17;x0/0;g0/0;l2/11/0/0;y21;s2,5:12;k3,3:1 6,5:2;z"),
]


def test_8_13_a_game_start_with_the_pie_rule() -> None:
    state = SQUARE.initial_state(swap_rule=True)
    for key, count, text in GAME_START:
        assert len(legal(SQUARE, state)) == count
        state = play(SQUARE, state, key)
        assert SQUARE.state_string(state) == text


CROSSING = """
    .  m1 m1 .  .
    .  .  .  m1 m1
    .  .  .  m1
    .  .  .  m1
    .
    .
    .  .  .  .  .  .  21
"""


def test_8_14_T13_with_two_players_the_short_first_axis_makes_the_slide_impossible() -> None:
    keys = legal(SQUARE, position(SQUARE, CROSSING))
    assert not any(key.startswith("R4,1>3,0") for key in keys)
    assert any(key.startswith("R2,0>3,0:1") for key in keys)


@pytest.mark.parametrize("option", ["1:6,6", "2:3,0/3,1/3,2"])
def test_8_14_T14_with_three_players_the_first_axis_is_collapsed_and_only_option_1_pays(option: str) -> None:
    start = position(SQUARE3, CROSSING)
    after = play(SQUARE3, start, f"R4,1>3,0:{option}")
    collapsed = {cell for cell, word in words(SQUARE3, after).items() if word == "z1"}
    assert collapsed == {(1, 0), (2, 0), (3, 0)}
    assert seats(SQUARE3.state_string(after), "x")[0] == (1 if option[0] == "1" else 0)


@pytest.mark.parametrize(("option", "cells"), [
    ("1:6,6", {(0, 0), (1, 0), (2, 0), (3, 0)}), ("2:3,0/3,1/3,2", {(3, 0), (3, 1), (3, 2)}),
])  # fmt: skip
def test_8_14_an_overlength_first_axis_leaves_the_window_free(option: str, cells: set[tuple[int, int]]) -> None:
    picture = CROSSING.replace(".  m1 m1 .  .", "m1 m1 m1 . .").replace("    .\n    .\n", "    . . . m1\n    .\n", 1)
    after = play(SQUARE3, position(SQUARE3, picture), f"R4,1>3,0:{option}")
    assert {cell for cell, word in words(SQUARE3, after).items() if word == "z1"} == cells
    assert seats(SQUARE3.state_string(after), "x")[0] == (1 if option[0] == "1" else 0)
