"""The command itself: fast, one line per error, the right exit code, nothing half-written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from ringrift_ops.cli import main
from ringrift_ops.cli.reference import reference
from ringrift_ops.cli.running import exit_code_of
from ringrift_ops.errors import ExitCode, GateError, InfrastructureError, NoDataError, UsageError
from ringrift_ops.stages import specs
from ringrift_ops.stages.heartbeat import Heartbeat, Report
from ringrift_ops.stages.specs import Stage

PROJECT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "numba", "airflow", "sqlalchemy", "scipy", "numpy"}
SPEC = {"config": "hex8_2p", "generation": None, "token": 0, "seed": 1, "weights": "0" * 64, "destinations": ["/a"]}
RESULT = specs.DistributeResult(
    weights="0" * 64, deliveries=[specs.Delivery(destination="/a", path="/a/net", verified=True, error=None)]
)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Any, Report], Any]], None]:
    """Put a function in the place of the distribute stage."""

    def put(run: Callable[[Any, Report], Any]) -> None:
        module = ModuleType("ringrift_ops.stages.distribute")
        module.run = run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "ringrift_ops.stages.distribute", module)

    return put


@pytest.fixture
def spec_file(tmp_path: Path) -> Path:
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(SPEC))
    return path


def test_help_and_version_import_nothing_heavy() -> None:
    program = (
        "import sys; from ringrift_ops.cli import main; code = main(['--help']); "
        f"print(code, sorted({HEAVY!r} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=PROJECT, check=True)
    assert answer.stdout.splitlines()[-1] == "0 []"


def test_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == "ringrift 0.1.0\n"


def test_F16_every_command_has_help_that_says_what_it_does() -> None:
    page = reference()
    titles = [line for line in page.splitlines() if line.startswith("### ")]
    assert len(titles) > 15
    for section in page.split("\n### ")[1:]:
        assert section.split("\n")[2].strip(), section


def test_every_verb_stands_in_one_group_of_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    from ringrift_ops.cli.app import app
    from ringrift_ops.cli.groups import GROUPS

    grouped = [verb for verbs in GROUPS.values() for verb in verbs]
    assert sorted(grouped) == sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert [line[:-1] for line in shown.splitlines() if line.rstrip(":") in GROUPS] == list(GROUPS)
    assert shown.count("...") == 1, "a sentence was cut (the one is of the usage line)"


def test_F16_command_page_is_what_the_commands_say() -> None:
    assert (PROJECT / "docs" / "cli.md").read_text(encoding="utf-8") == reference(), "run `make docs`"


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-verb"],
        ["selfplay", "--no-such-option"],
        ["selfplay"],
        ["selfplay", "--config", "hex9_2p"],
        ["selfplay", "--board-type", "hex8", "--num-players", "5"],
        ["selfplay", "--config", "hex8_2p", "--profile", "huge"],
        ["selfplay", "--config", "hex8_2p", "--player", "wizard"],
        ["selfplay", "--config", "hex8_2p", "--num-games", "-3"],
        ["selfplay", "--config", "hex8_2p", "--num-games", "many"],
        ["gauntlet", "--config", "hex8_2p"],
        ["train", "--config", "hex8_2p"],
        ["export", "--config", "hex8_2p"],
        ["parity"],
        ["parity", "--db", "tests/data", "--num-players", "3"],
        ["rules", "check", "--num-players", "3"],
        ["selfplay", "--config", "hex8_2p", "--simulations", "1000000000"],
        ["selfplay", "--config", "hex8_2p", "--temperature", "inf"],
        ["selfplay", "--config", "hex8_2p", "--shard", "-1"],
        ["selfplay", "--config", "hex8_2p", "--max-moves", "4"],
        ["describe", "polish"],
        ["events", "--type", "NO_SUCH"],
        ["events", "--since", "yesterday"],
        ["events", "--since", "99999999999d"],
        ["events", "--since", "9999-12-31T23:59:59-14:00"],
        ["jobs", "../../etc"],
        ["jobs", "--kill"],
    ],
)
def test_F16_wrong_usage_is_one_line_and_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == ExitCode.WRONG_USAGE
    shown = capsys.readouterr()
    assert shown.out == ""
    assert len(shown.err.strip().splitlines()) == 1
    assert shown.err.startswith("ringrift: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["parity", "--db", "no_such.db"],
        ["export", "--config", "hex8_2p", "--db", "no_such.db"],
        ["export", "--config", "hex8_2p", "--use-discovery"],
        ["train", "--config", "hex8_2p", "--data-path", "no_such.npz"],
        ["gauntlet", "--config", "hex8_2p", "--model", "no_such.safetensors"],
        ["distribute", "--config", "hex8_2p", "--to", "there"],
        ["selfplay", "--spec", "no_such.json"],
        ["model", "show", "hex8_2p"],
        ["jobs", "hex8_2p-g1-train"],
    ],
)
def test_F16_what_does_not_exist_is_one_line_and_exit_code_3(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == ExitCode.NO_DATA
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_error_with_json_is_one_document_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["selfplay", "--config", "hex9_2p", "--json"]) == ExitCode.WRONG_USAGE
    shown = capsys.readouterr()
    error = json.loads(shown.out)["error"]
    assert (error["type"], error["exit_code"], shown.err) == ("UnknownConfigError", 2, "")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (GateError("the gate is shut"), 1),
        (UsageError("not this"), 2),
        (NoDataError("nothing there"), 3),
        (InfrastructureError("the disk is full"), 4),
    ],
)
def test_F16_error_of_a_stage_is_its_exit_code_one_line_and_the_result_file(
    stage: Callable[..., None], spec_file: Path, error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_spec: object, _report: Report) -> None:
        raise error

    stage(fail)
    result = spec_file.with_name("result.json")
    assert main(["distribute", "--spec", str(spec_file), "--result", str(result)]) == code
    assert capsys.readouterr().err == f"ringrift: {error}\n"
    assert json.loads(result.read_text()) == {
        "error": {"type": type(error).__name__, "message": str(error), "exit_code": code}
    }


def test_R16_out_of_memory_is_one_line_and_exit_code_4(
    stage: Callable[..., None], spec_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_spec: object, _report: Report) -> None:
        raise MemoryError

    stage(fail)
    assert main(["distribute", "--spec", str(spec_file)]) == ExitCode.INFRASTRUCTURE
    assert capsys.readouterr().err.startswith("ringrift: Out of memory;")


def test_stage_answers_in_its_result_file_and_tells_where_it_stands(
    stage: Callable[..., None], spec_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(spec: specs.DistributeSpec, report: Report) -> specs.DistributeResult:
        assert spec == specs.DistributeSpec.model_validate(SPEC)
        for done in (1, 2):
            report(Heartbeat(stage=Stage.DISTRIBUTE, phase="copying", done=done, total=2, unit="copies"))
        return RESULT

    stage(run)
    result, beats = spec_file.with_name("result.json"), spec_file.with_name("heartbeat.jsonl")
    arguments = ["distribute", "--spec", str(spec_file), "--result", str(result), "--heartbeat", str(beats)]
    assert main([*arguments, "--json"]) == 0
    shown = capsys.readouterr()
    assert specs.DistributeResult.model_validate_json(result.read_text()) == RESULT
    assert json.loads(shown.out) == RESULT.model_dump(mode="json")
    assert "distribute copying: 2/2 copies" in shown.err
    lines = [json.loads(line) for line in beats.read_text().splitlines()]
    assert [(line["phase"], line["done"], line["total"], line["unit"]) for line in lines] == [
        ("copying", 1, 2, "copies"),
        ("copying", 2, 2, "copies"),
    ]


def test_defect_of_a_stage_is_a_traceback_and_exit_code_4_never_a_gates_no(tmp_path: Path, spec_file: Path) -> None:
    program = (
        "import sys, types; module = types.ModuleType('m'); module.run = lambda spec, report: 1 / 0\n"
        "sys.modules['ringrift_ops.stages.distribute'] = module\n"
        "from ringrift_ops.cli import main; sys.exit(main())"
    )
    result = tmp_path / "result.json"
    answer = subprocess.run(
        [sys.executable, "-c", program, "distribute", "--spec", str(spec_file), "--result", str(result)],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        check=False,
    )
    assert answer.returncode == ExitCode.INFRASTRUCTURE
    assert "ZeroDivisionError" in answer.stderr
    assert json.loads(result.read_text())["error"]["exit_code"] == 4


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "Invalid JSON"),
        ("{}", "destinations: Field required"),
        (json.dumps(SPEC | {"extra": 1}), "extra: Extra inputs are not permitted"),
        (json.dumps(SPEC | {"seed": "one"}), "seed: Input should be a valid integer"),
    ],
)
def test_F2_spec_file_with_missing_or_unknown_keys_is_refused(
    spec_file: Path, content: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spec_file.write_text(content)
    assert main(["distribute", "--spec", str(spec_file)]) == ExitCode.WRONG_USAGE
    assert complaint in capsys.readouterr().err


def test_option_beside_a_spec_file_is_refused_and_not_ignored(
    spec_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["distribute", "--spec", str(spec_file), "--to", "/b"]) == ExitCode.WRONG_USAGE
    assert "leave out --destinations" in capsys.readouterr().err


def test_result_that_cannot_be_written_is_an_infrastructure_error(
    stage: Callable[..., None], spec_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage(lambda _spec, _report: RESULT)
    (spec_file.parent / "file").touch()
    assert main(["distribute", "--spec", str(spec_file), "--result", str(spec_file.parent / "file" / "r")]) == 4
    assert "cannot write" in capsys.readouterr().err


def opponent(verdict: specs.Verdict) -> specs.GauntletResult:
    return specs.GauntletResult(
        report="0" * 64, path="r", candidate="1" * 64, gate_version="1", verdict=verdict, reason="", opponents=[],
        mirror=None, seconds=1.0,
    )  # fmt: skip


def test_F10_exit_code_of_a_verdict_is_the_gates_tables() -> None:
    verdicts = [exit_code_of(opponent(verdict)) for verdict in specs.Verdict]
    assert verdicts == [ExitCode.DONE, ExitCode.GATE_SAID_NO, ExitCode.NO_DATA]
    failed = RESULT.deliveries[0].model_copy(update={"verified": False, "error": "no"})
    assert exit_code_of(RESULT) is ExitCode.DONE
    assert exit_code_of(RESULT.model_copy(update={"deliveries": [failed]})) is ExitCode.INFRASTRUCTURE


def test_describe_shows_every_field_of_a_stage_under_any_of_its_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", "evaluate"]) == 0
    shown = capsys.readouterr().out
    assert "gauntlet spec:" in shown
    assert all(field in shown for field in specs.GauntletSpec.model_fields)
    assert all(field in shown for field in specs.GauntletResult.model_fields)


def test_shell_completes_commands_and_config_names() -> None:
    def completed(words: str) -> set[str]:
        environment = os.environ | {"_RINGRIFT_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": ""}
        environment["COMP_CWORD"] = str(len(words.split(" ")) - 1)
        program = "import sys; from ringrift_ops.cli import main; sys.exit(main())"
        answer = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, cwd=PROJECT, env=environment, check=False
        )
        return set(answer.stdout.split())

    assert completed("ringrift gaun") == {"gauntlet"}
    assert completed("ringrift selfplay --config hex8_") == {"hex8_2p", "hex8_3p", "hex8_4p"}
