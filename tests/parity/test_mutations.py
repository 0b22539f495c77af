"""The proof that parity finds things: wrong rules planted one at a time, each found and named."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ringrift_ops.games.records import GameRecord
from ringrift_ops.parity.bundles import describe_bundle, read_bundle
from ringrift_ops.parity.compare import Divergence, compare, typescript_replay
from ringrift_ops.parity.node import SERVER, EngineProcess, replay_request
from ringrift_ops.parity.replay import Replayer
from ringrift_ops.rules.game import game
from ringrift_ops.rules.move_json import translator
from ringrift_ops.settings.names import config_named
from ringrift_ops.stages import parity
from ringrift_ops.stages.heartbeat import silent
from tests.parity.mutations import PACKAGE, PYTHON, TYPESCRIPT, Mutation, mutated_typescript
from tests.parity.played import parity_spec, random_record, random_records, written

BUDGET = 200
"""Games within which parity has to find a mutation."""


def first_divergence(mutation: Mutation, script: Path) -> tuple[GameRecord, Divergence] | None:
    row = config_named(mutation.config)
    replayer = Replayer(game(mutation.config))
    to_json = translator(row.board).to_json
    with EngineProcess(script, seconds=20) as engine:
        for seed in range(BUDGET):
            record = random_record(mutation.config, seed, swap_rule=mutation.swap_rule)
            moves = tuple(
                to_json(key, seat, game_id=record.game_id, move_number=number)
                for number, (key, seat) in enumerate(zip(record.moves, record.seats, strict=True))
            )
            answer = engine.ask(
                replay_request(record.game_id, row.board, row.players, moves, swap_rule=record.swap_rule)
            )
            python = replayer.replay(record.moves, swap_rule=record.swap_rule)
            divergence = compare(record, python, typescript_replay(answer))
            if divergence is not None:
                return record, divergence
    return None


def initial_list(script: Path, config: str) -> object:
    row = config_named(config)
    with EngineProcess(script) as engine:
        return engine.ask(replay_request("start", row.board, row.players, (), swap_rule=False))["final"]


def test_there_is_a_mutation_for_every_section_of_the_rules() -> None:
    sections = {mutation.rule.split()[0] for mutation in TYPESCRIPT}
    assert {
        "1.4",
        "3.2",
        "3.3",
        "4.1",
        "4.2",
        "4.3",
        "4.5",
        "4.6",
        "4.7",
        "4.8",
        "4.9",
        "4.12",
        "5.2",
        "5.4",
    } <= sections
    assert len(TYPESCRIPT) >= 12


def test_without_a_mutation_nothing_is_found() -> None:
    assert first_divergence(TYPESCRIPT[0], SERVER) is None


@pytest.mark.parametrize("mutation", TYPESCRIPT, ids=str)
def test_a_wrong_rule_in_typescript_is_found_and_game_and_move_are_named(mutation: Mutation, tmp_path: Path) -> None:
    script = mutated_typescript(tmp_path, mutation)
    rules = game(mutation.config)
    right = list(rules.legal_hash(rules.initial_state()))
    assert initial_list(script, mutation.config) == right, "it must not be visible in the initial position"
    found = first_divergence(mutation, script)
    assert found is not None, f"{mutation.name}: not found in {BUDGET} games"
    record, divergence = found
    assert record.game_id.startswith(f"random-{mutation.config}")
    assert 0 < divergence.move < len(record.moves)


def test_R69_the_stage_writes_the_verdict_and_a_bundle_that_says_in_words_what_differs(tmp_path: Path) -> None:
    mutation = next(one for one in TYPESCRIPT if one.name == "marker not flipped")
    script = mutated_typescript(tmp_path, mutation)
    batch = written(tmp_path / "games.db", random_records("square8_2p", 3))
    result = parity.run(parity_spec("square8_2p", batch), silent, script=script)
    assert not result.passed
    assert result.checked == result.failed == 3
    failure = result.failures[0]
    assert failure.kinds == ["state_hash"]
    assert Path(failure.bundle).name == f"games__{failure.game_id}__k{failure.move + 1}.state_bundle.json"
    words = describe_bundle(read_bundle(Path(failure.bundle)))
    assert f"game {failure.game_id} (square8_2p)" in words
    assert f"diverged at move {failure.move} " in words
    assert "legal moves: the same" in words
    assert "markers that differ: " in words
    assert "(seat 1 in Python, seat 2 in TypeScript)" in words or "(seat 2 in Python, seat 1 in TypeScript)" in words


def test_R69_a_bundle_names_the_moves_that_only_one_engine_lists(tmp_path: Path) -> None:
    mutation = next(one for one in TYPESCRIPT if one.name == "shortest capture missing")
    script = mutated_typescript(tmp_path, mutation)
    batch = written(tmp_path / "games.db", random_records("square8_2p", 1))
    failure = parity.run(parity_spec("square8_2p", batch), silent, script=script).failures[0]
    assert failure.kinds == ["legal_count", "legal_list"]
    words = describe_bundle(read_bundle(Path(failure.bundle)))
    assert "only Python lists overtaking_capture C" in words
    assert "state: the same in every field" in words


CHILD = """
import json, sys
from pathlib import Path
from ringrift_ops.stages import parity
from ringrift_ops.stages.heartbeat import silent
from ringrift_ops.stages.specs import ParitySpec
import ringrift_ops
assert Path(ringrift_ops.__file__).is_relative_to(sys.argv[1]), ringrift_ops.__file__
print(parity.run(ParitySpec.model_validate_json(sys.argv[2]), silent).model_dump_json())
"""


@pytest.mark.slow
@pytest.mark.parametrize("mutation", PYTHON, ids=str)
def test_a_wrong_rule_in_python_is_found_and_game_and_move_are_named(
    mutation: Mutation, tmp_path: Path, home: Path
) -> None:
    copy = tmp_path / "copy" / "ringrift_ops"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
    mutation.plant(copy)
    batch = written(tmp_path / "games.db", random_records(mutation.config, 20))
    environment = os.environ | {
        "PYTHONPATH": str(copy.parent),
        "RINGRIFT_HOME": str(home),
        "RINGRIFT_NUMBA_CACHE": str(tmp_path / "numba"),
        "NUMBA_OPT": "0",  # 26 s instead of 41 s to compile
    }
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(copy.parent), parity_spec(mutation.config, batch).model_dump_json()],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    result = json.loads(child.stdout)
    assert not result["passed"]
    failure = result["failures"][0]
    assert failure["game_id"].startswith("random-")
    assert failure["move"] > 0
