"""One batch out of several is the batch that one writer would have made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ringrift_ops.games.merge import absorb
from ringrift_ops.games.reader import GameDatabase
from ringrift_ops.games.records import GameRecord
from ringrift_ops.games.writer import BatchMismatchError, BatchWriter, FinishedBatch
from tests.games.test_writer import policies_of
from tests.games.traces import needs_traces, records

pytestmark = needs_traces
CONFIG = "hex8_2p"


def write(path: Path, games: list[GameRecord], config: str = CONFIG) -> FinishedBatch:
    with BatchWriter(path, config, codes_version="1") as writer:
        for game in games:
            writer.add(game)
        return writer.finish()


def test_merged_parts_are_the_batch_that_one_writer_makes_also_after_a_break(tmp_path: Path) -> None:
    first, second, third = records(CONFIG)
    games = [replace(first, policies=policies_of(first)), second, third]
    whole = write(tmp_path / "whole.db", games)
    parts = [tmp_path / "a.db", tmp_path / "b.db"]
    write(parts[0], games[:2])
    write(parts[1], games[2:])
    with BatchWriter(tmp_path / "merged.db", CONFIG, codes_version="1") as writer:
        assert absorb(writer, parts[0]) == 2
    with BatchWriter(tmp_path / "merged.db", CONFIG, codes_version="1") as writer:
        assert [absorb(writer, part) for part in parts] == [0, 1]
        merged = writer.finish()
    assert replace(merged, path=whole.path) == whole
    with GameDatabase(merged.path, CONFIG) as database:
        assert database.verify() == whole.digest
        assert sum(game.policies is not None for game in database.games()) == 1


def test_parts_of_another_config_and_parts_that_overlap_are_refused(tmp_path: Path) -> None:
    first, second, third = records(CONFIG)
    write(tmp_path / "other.db", list(records("hex8_3p", 1)), "hex8_3p")
    write(tmp_path / "a.db", [first, second])
    write(tmp_path / "b.db", [second, third])
    with BatchWriter(tmp_path / "merged.db", CONFIG, codes_version="1") as writer:
        with pytest.raises(BatchMismatchError, match="has config = 'hex8_3p'"):
            absorb(writer, tmp_path / "other.db")
        absorb(writer, tmp_path / "a.db")
        with pytest.raises(BatchMismatchError, match="some games in common"):
            absorb(writer, tmp_path / "b.db")
        assert len(writer) == 2
