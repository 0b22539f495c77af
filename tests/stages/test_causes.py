"""More symptoms produced for real by the verbs, recognised, and gone after the fix that was printed (by hand)."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from ringrift_ops.cli import main
from ringrift_ops.errors import ExitCode
from ringrift_ops.home import Home
from ringrift_ops.hosts.jobs import Job
from ringrift_ops.hosts.local import LocalJobs
from tests.parity.mutations import PACKAGE, Mutation
from tests.stages.conftest import CONFIG, Made, changed
from tests.stages.test_diagnosis import CLI, SECONDS, causes_of, named, of_stage, of_verb
from tests.stages.test_remedies import promoted

pytestmark = pytest.mark.runbooks_campaign

LONGER_LINES = Mutation(
    "line length", "1.4", "parity/engine/game.ts",
    "return isSmall && players > 2 ? 3 : 4;", "return isSmall && players > 2 ? 3 : 5;",
)  # fmt: skip
READS = "  const moves = readMoves(request);\n  const { swapRule"
ABORTS = Mutation(
    "aborts", "", "parity/engine/server.ts",
    READS, READS.replace("\n", "\n  if (moves.length > 60) process.abort();\n", 1),
)  # fmt: skip
CANNOT_START = Mutation("cannot start", "", "parity/engine/server.ts", READS, READS.replace(");", ";", 1))
OTHER_NET = Mutation(
    "another net", "", "network/sparse_training.py",
    "dense = functional.relu(torch", "dense = functional.leaky_relu(torch",
)  # fmt: skip
WITHOUT_RIGHTS = "-dac_override,-dac_read_search"
"""What lets root write where it may not."""


def package_with(mutation: Mutation, folder: Path) -> str:
    """A copy of this package with something wrong in it, for PYTHONPATH."""
    copy = folder / "ringrift_ops"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    mutation.plant(copy)
    return str(folder)


def again(house: Home, stage: str) -> None:
    """Forget a stage's job, so that it can be done again."""
    shutil.rmtree(LocalJobs(house.jobs).folder(f"{CONFIG}-g1-{stage}"))


def done(fix: str, capsys: pytest.CaptureFixture[str], code: ExitCode = ExitCode.DONE) -> str:
    """Run a fix as it was printed and return what it said."""
    capsys.readouterr()
    program, *words = fix.split()
    assert program == "ringrift"
    assert main(words) == code
    return capsys.readouterr().out


def sql(database: Path, text: str) -> None:
    connection = sqlite3.connect(database)
    with connection:
        assert connection.execute(text).rowcount > 0
    connection.close()


def test_R11_a_record_that_was_altered_fails_parity_and_the_fix_shows_where(
    made: Made, house: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = house.resolve(made.played.path)
    alter = "UPDATE games SET winner = 3 - winner WHERE game_id = (SELECT min(game_id) FROM games)"
    sql(batch, alter)
    found = named(of_stage(house, "parity", made.parity), "parity_failed")
    assert "1 games failed parity check, 40 were checked" in found.evidence[0]
    assert "diverged at move 159 of 160" in done(found.fix, capsys)
    sql(batch, alter)
    again(house, "parity")
    assert of_stage(house, "parity", made.parity) == []


def test_R11_an_engine_with_another_rule_fails_parity_and_the_right_one_does_not(
    made: Made, house: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["parity", "--db", str(house.resolve(made.played.path)), "--result", "result.json"]
    causes = of_verb(house, "parity", *words, PYTHONPATH=package_with(LONGER_LINES, tmp_path))
    found = named(causes, "parity_failed")
    assert [one.cause for one in causes] == ["parity_failed"]
    assert "legal moves" in done(found.fix, capsys)
    again(house, "parity")
    assert of_verb(house, "parity", *words) == []


def test_R11_a_second_engine_that_really_dies_is_told_apart_from_one_that_disagrees(
    made: Made, house: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = house.resolve(made.played.path)
    words = ["parity", "--db", str(batch), "--sample", "2", "--seed", "1", "--result", "result.json"]
    causes = of_verb(house, "parity", *words, PYTHONPATH=package_with(ABORTS, tmp_path / "aborts"))
    assert [one.cause for one in causes] == ["engine_crashed", "parity_failed"]
    assert all("engine_crash at move 60 of game" in line for line in causes[0].evidence)
    again(house, "parity")
    causes = of_verb(house, "parity", *words, PYTHONPATH=package_with(CANNOT_START, tmp_path / "cannot"))
    found = named(causes, "engine_crashed")
    assert "SyntaxError" in found.evidence[0]
    assert "typescript  2 games" in done(found.fix, capsys)
    again(house, "parity")
    assert of_verb(house, "parity", *words) == []


def test_R11_games_that_nobody_has_checked(made: Made, house: Home, tmp_path: Path) -> None:
    batch = house.resolve(made.played.path)
    sql(batch, "UPDATE games SET parity_status = 'pending'")
    words = ["export", "--use-discovery", "--config", CONFIG, "--result", "result.json"]
    found = named(of_verb(house, "export", *words), "games_not_checked")
    assert found.fix == f"ringrift trigger {CONFIG} parity"
    assert "run `ringrift parity --config hex8_2p` first" in found.evidence[0]
    assert main(["parity", "--config", CONFIG]) == ExitCode.DONE, "what is said finds the games that are unchecked"
    assert main(["parity", "--config", CONFIG]) == ExitCode.NO_DATA, "and there are no others"
    again(house, "export")
    assert of_verb(house, "export", *words) == []


def test_R11_a_dataset_of_three_games(
    made: Made, house: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    batch, few = house.resolve(made.played.path), tmp_path / "few.npz"
    kept = "(SELECT game_id FROM games ORDER BY game_id LIMIT 3)"
    sql(batch, f"UPDATE games SET parity_status = 'pending' WHERE game_id NOT IN {kept}")
    export = ["export", "--db", str(batch), "--config", CONFIG, "--output", str(few)]
    assert main(export) == ExitCode.DONE
    words = ["train", "--config", CONFIG, "--data-path", str(few), "--profile", "tiny", "--result", "result.json"]
    found = named(of_verb(house, "train", *words), "unfit_dataset")
    assert "3 games, at least 10 are needed" in found.evidence[0]
    assert "at least 10 are needed" in done(found.fix, capsys, ExitCode.GATE_SAID_NO)
    sql(batch, "UPDATE games SET parity_status = 'passed'")
    assert main(export) == ExitCode.DONE
    again(house, "train")
    assert of_verb(house, "train", *words) == []


def test_R11_a_net_that_is_worse_than_its_parent_and_the_fix_with_a_tenth_of_the_rate(
    made: Made, house: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    promoted(made, capsys)
    house.settings_file.parent.mkdir(exist_ok=True)
    house.settings_file.write_text(f"configs: {{{CONFIG}: {{sparse: {{hidden: 16, dense: 16}}}}}}\n")
    spec = changed(made.train, parent=made.trained.weights, learning_rate=0.3, batch_size=64, seed=4)
    found = named(of_stage(house, "train", spec), "worse_than_parent")
    assert found.fix.endswith("--init-from canonical --learning-rate 0.03")
    assert "more than x 1.1" in found.evidence[0]
    assert "parent_validation_loss" in done(f"{found.fix} --epochs 1 --batch-size 1024 --seed 4", capsys)


def test_R11_what_is_served_is_not_what_was_trained(made: Made, house: Home, tmp_path: Path) -> None:
    npz = str(house.resolve(made.exported.path))
    words = ["train", "--config", CONFIG, "--data-path", npz, "--profile", "tiny", "--result", "result.json"]
    causes = of_verb(house, "train", *words, PYTHONPATH=package_with(OTHER_NET, tmp_path))
    assert "served output differs" in named(causes, "served_differently").evidence[0]
    again(house, "train")
    assert of_verb(house, "train", *words) == []


def test_R11_games_of_a_gauntlet_that_prove_nothing(
    made: Made, house: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    found = named(of_stage(house, "gauntlet", changed(made.gauntlet, max_moves=8)), "games_crashed")
    assert "games_repeated" in found.evidence[0]
    assert found.fix == f"ringrift gauntlet --model {made.trained.weights} --config {CONFIG}"
    assert "NO_EVIDENCE" not in done(f"{found.fix} --profile tiny", capsys, ExitCode.GATE_SAID_NO).split("mirror")[0]


def test_R11_a_net_that_nobody_has_judged(made: Made, house: Home, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(house.resolve(made.trained.path))
    ledger_of_another_house(house)
    words = ["promote", "--model", model, "--config", CONFIG, "--profile", "tiny"]
    found = named(of_verb(house, "promote", *words), "gauntlet_not_triggered")
    assert found.fix == f"ringrift trigger {CONFIG} gauntlet"
    again(house, "promote")
    named(of_verb(house, "promote", *words, "--gauntlet"), "below_threshold")


def ledger_of_another_house(house: Home) -> None:
    """The games and nets stay, what was judged is not known here."""
    for path in house.root.glob("ledger.db*"):
        path.unlink()


def test_R11_links_that_may_not_be_written(made: Made, house: Home, capsys: pytest.CaptureFixture[str]) -> None:
    promoted(made, capsys)
    house.canonical_link(CONFIG).unlink()
    house.models.chmod(0o555)
    force = ["promote", "--force", "--reason", "a start", "--model", made.trained.weights, "--config", CONFIG]
    argv = ("setpriv", f"--bounding-set={WITHOUT_RIGHTS}", f"--inh-caps={WITHOUT_RIGHTS}", *CLI, *force)
    job = Job(job_id=f"{CONFIG}-g1-promote", argv=argv, spec={"config": CONFIG}, timeout_seconds=SECONDS)
    causes = causes_of(house, job)
    found = named(causes, "symlink_failed")
    assert "make the folder writable" in found.evidence[0]
    assert {one.cause for one in causes} == {"symlink_failed", "permission_denied"}
    house.models.chmod(0o755)
    assert "1 repaired" in done(found.fix, capsys)
    assert house.canonical_link(CONFIG).resolve() == house.resolve(made.trained.path).resolve()
