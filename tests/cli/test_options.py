"""The runbooks' options become the spec they mean: from the settings' rows, changed by what was given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ringrift_ops.cli import export, gauntlet, main, selfplay, train
from ringrift_ops.cli.options import OptionConflictError
from ringrift_ops.errors import ExitCode
from ringrift_ops.home import Home
from ringrift_ops.ledger import Ledger, generation_lease
from ringrift_ops.settings import CONFIGS, PROFILES, Settings
from ringrift_ops.store import Store, sha256_file

TINY = PROFILES["tiny"]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    path = tmp_path / "hex8_2p.npz"
    path.write_bytes(b"any bytes: the stage looks into it, the door does not")
    return path


@pytest.fixture
def net(tmp_path: Path) -> Path:
    path = tmp_path / "net.safetensors"
    path.write_bytes(b"weights")
    return path


def dry_run(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["pipeline", "run", *arguments, "--dry-run", "--json"]) == ExitCode.DONE
    shown: dict[str, Any] = json.loads(capsys.readouterr().out)
    return shown


def test_R12_export_options_become_the_spec(tmp_path: Path) -> None:
    database = tmp_path / "canonical_hex8.db"
    database.touch()
    output = tmp_path / "hex8_2p.npz"
    spec = export.spec_of("hex8_2p", [database], output=output, profile="tiny", seed=7, max_samples=100_000)
    assert spec.databases == [str(database)]
    assert (spec.output, spec.max_samples, spec.seed) == (str(output), 100_000, 7)
    assert (spec.generation, spec.token) == (None, 0)


def test_R13_discovery_and_named_databases_exclude_each_other(tmp_path: Path) -> None:
    database = tmp_path / "a.db"
    database.touch()
    with pytest.raises(OptionConflictError, match="leave --db out"):
        export.spec_of("hex8_2p", [database], use_discovery=True, profile=None, seed=1)


def test_R15_split_is_nine_tenths_of_the_games_unless_said_otherwise(tmp_path: Path) -> None:
    database = tmp_path / "a.db"
    database.touch()
    assert export.spec_of("hex8_2p", [database], profile="quick", seed=1).split_ratio == 0.9
    assert export.spec_of("hex8_2p", [database], profile="quick", seed=1, split_ratio=0.8).split_ratio == 0.8


def test_train_options_become_the_spec(dataset: Path) -> None:
    spec = train.spec_of(
        "hex8_2p", dataset, profile="tiny", seed=3, batch_size=256, epochs=50, learning_rate=0.01, device="cpu"
    )
    assert (spec.dataset, spec.dataset_path) == (sha256_file(dataset), str(dataset))
    assert (spec.batch_size, spec.epochs, spec.learning_rate, spec.parent) == (256, 50, 0.01, None)
    assert (spec.family, spec.sizes) == (TINY.family, CONFIGS["hex8_2p"].sizes(TINY.family))


def test_train_family_brings_its_own_sizes(dataset: Path) -> None:
    spec = train.spec_of("hex8_2p", dataset, profile="tiny", seed=3, family="convolutional")
    assert spec.sizes == CONFIGS["hex8_2p"].sizes("convolutional")


def test_R77_training_starts_from_the_canonical_weights_on_request(
    dataset: Path, home: Path, net: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", "--config", "hex8_2p", "--data", str(dataset), "--init-from"]
    assert main([*arguments, "canonical"]) == ExitCode.NO_DATA
    assert "no net of hex8_2p was promoted yet" in capsys.readouterr().err
    sha = make_canonical(Home(home), net)
    assert train.spec_of("hex8_2p", dataset, profile="tiny", seed=3, init_from="canonical").parent == sha
    assert train.spec_of("hex8_2p", dataset, profile="tiny", seed=3, init_from=sha[:12]).parent == sha


def make_canonical(home: Home, net: Path) -> str:
    sha, path = Store(home).put(net, ".safetensors")
    ledger = Ledger.open()
    ledger.record_artifact(
        sha, "weights", home.relative(path), path.stat().st_size, "hex8_2p", generation=None, parents=[], meta={},
        token=0,
    )  # fmt: skip
    lease = ledger.acquire_lease(generation_lease("hex8_2p"), "test")
    ledger.compare_and_swap_canonical(
        "hex8_2p", None, sha, lease.token, generation=None, reason="for the test", actor="test", kind="forced"
    )
    ledger.release_lease(lease.name, lease.token)
    return sha


def test_R53_gauntlet_options_become_the_spec(net: Path) -> None:
    spec = gauntlet.spec_of(
        "hex8_2p", str(net), profile="tiny", seed=1, opponents="random,heuristic", games=50, simulations=200
    )
    assert (spec.candidate, spec.candidate_path) == (sha256_file(net), str(net))
    assert (spec.opponents, spec.games_per_look, spec.search.simulations) == (["random", "heuristic"], 50, 200)
    assert (spec.previous, spec.search.temperature) == (None, 0.0)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--opponents", "random,wizard"], "unknown opponent 'wizard'"),
        (["--opponents", "previous"], "no canonical net"),
        (["--games", "0"], "games_per_look"),
        (["--parallel", "8"], "only 1 is possible"),
    ],
)
def test_R53_gauntlet_options_that_cannot_be_are_refused(
    net: Path, options: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gauntlet", "--config", "hex8_2p", "--model", str(net), *options]) == ExitCode.WRONG_USAGE
    assert complaint in capsys.readouterr().err


def test_gauntlet_of_a_net_that_is_not_canonical_meets_the_one_that_is(home: Path, net: Path, tmp_path: Path) -> None:
    sha = make_canonical(Home(home), net)
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"other weights")
    spec = gauntlet.spec_of("hex8_2p", str(other), profile="tiny", seed=1)
    assert (spec.previous, spec.opponents) == (sha, ["random", "heuristic", "previous"])
    assert gauntlet.spec_of("hex8_2p", "canonical", profile="tiny", seed=1).previous is None


def test_R61_pipeline_phases_take_the_runbooks_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "canonical_square8.db"
    played = dry_run(
        capsys, "canonical_selfplay", "--board", "square8", "--num-games", "1000", "--output-db", str(output)
    )
    assert (played["stage"], played["spec"]["config"], played["spec"]["games"]) == ("selfplay", "square8_2p", 1000)
    assert played["spec"]["output"] == str(output)
    database = tmp_path / "games.db"
    database.touch()
    named = ["--db", str(database), "--board", "square8"]
    checked = dry_run(capsys, "parity_validation", *named)
    assert (checked["stage"], checked["spec"]["batches"]) == ("parity", [str(database)])
    folder = tmp_path / "training"
    exported = dry_run(capsys, "npz_export", *named, "--output-dir", str(folder))
    assert (exported["stage"], exported["spec"]["output"]) == ("export", str(folder / "square8_2p.npz"))


def test_R65_dry_run_prints_what_would_run_and_where_and_makes_nothing(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pipeline", "run", "canonical_selfplay", "--board", "hex8", "--dry-run"]) == ExitCode.DONE
    shown = capsys.readouterr().out
    assert "this machine" in shown
    assert "hex8_2p" in shown
    assert not (home / "data").exists()


def test_R65_status_has_the_runbooks_keys_and_writes_the_state_file(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pipeline", "status", "--json", "--state", str(tmp_path / "state.json")]) == ExitCode.DONE
    state = json.loads(capsys.readouterr().out)
    keys = {"current_phase", "phase_status", "games_completed", "games_target", "started_at", "workers"}
    assert keys <= set(state)
    assert json.loads((tmp_path / "state.json").read_text())["phase_status"] == "idle"


def test_R65_options_may_stand_before_the_phase(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "canonical_selfplay", "--board", "hex8"]
    assert main(["pipeline", "--dry-run", *words, "--json"]) == ExitCode.DONE
    assert json.loads(capsys.readouterr().out)["spec"]["config"] == "hex8_2p"
    assert main(["pipeline", "--state", str(tmp_path / "state.json"), "status"]) == ExitCode.DONE
    assert json.loads((tmp_path / "state.json").read_text())["phase_status"] == "idle"
    assert not (home / "pipeline_state.json").exists()
    assert main(["pipeline", "--dry-run", "status"]) == ExitCode.DONE
    assert not (home / "pipeline_state.json").exists()


@pytest.mark.parametrize("named", [True, False])
def test_R65_a_phase_writes_the_state_file_afterwards(named: bool, home: Path, tmp_path: Path) -> None:
    state = tmp_path / "state.json" if named else home / "pipeline_state.json"
    words = ["--board", "square8", "--num-games", "2", "--profile", "tiny", "--seed", "3"]
    option = ["--state", str(state)] if named else []
    assert main(["pipeline", "run", "canonical_selfplay", *words, *option]) == ExitCode.DONE
    told = json.loads(state.read_text())
    assert (told["phase_status"], told["games_completed"], told["games_target"]) == ("completed", 2, 2)
    assert told["workers"] == {"this machine": {"status": "idle", "games": 2}}


def test_R65_a_state_file_that_cannot_be_written_is_told_before_the_phase(home: Path, tmp_path: Path) -> None:
    words = ["run", "canonical_selfplay", "--board", "square8", "--num-games", "2", "--profile", "tiny"]
    (tmp_path / "file").touch()
    assert main(["pipeline", "--state", str(tmp_path / "file" / "state.json"), *words]) == ExitCode.INFRASTRUCTURE
    assert not list(Home(home).games.glob("*"))


def test_R67_the_pipelines_own_file_may_stand_before_the_phase_and_names_the_board(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RINGRIFT_PIPELINE_CONFIG", "")  # what the command sets goes with the test
    file = tmp_path / "pipeline_config.yaml"
    file.write_text("default_board: hex8\nselfplay: {games_per_worker: 40, max_moves: 300}\n")
    words = ["pipeline", "--config", str(file), "--backend", "local", "run", "canonical_selfplay"]
    assert main([*words, "--num-games", "100", "--dry-run", "--json"]) == ExitCode.DONE
    out, err = capsys.readouterr()
    planned = json.loads(out)
    assert (planned["spec"]["config"], planned["parts"], planned["spec"]["max_moves"]) == ("hex8_2p", 3, 300)
    assert planned["hosts"][0]["games"] == 100
    assert err.count("all configs: max_moves 300 cuts games short") == 1
    assert main(["pipeline", "--config", str(tmp_path / "no.yaml"), "status"]) == ExitCode.NO_DATA


@pytest.mark.parametrize("backend", ["ssh", "p2p"])
def test_R62_a_backend_that_is_not_there_is_refused_before_anything_is_made(
    backend: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["pipeline", "--backend", backend, "run", "canonical_selfplay", "--board", "hex8", "--num-games", "3"]
    assert main(words) == ExitCode.WRONG_USAGE
    assert f"--backend {backend}" in capsys.readouterr().err
    assert not (home / "jobs").exists()


def test_selfplay_follows_the_profile_and_the_options_go_over_it() -> None:
    plain = selfplay.spec_of("hex8_2p", profile="tiny", seed=5)
    assert (plain.player, plain.games, plain.weights) == (TINY.first_player, TINY.first_games, None)
    assert plain.max_moves == Settings.load().config("hex8_2p").max_moves
    other = selfplay.spec_of(
        "hex8_2p", profile="tiny", seed=5, player="random", games=3, simulations=9, temperature=0.0, max_moves=50
    )
    assert (other.player, other.games, other.max_moves) == ("random", 3, 50)
    assert (other.search.simulations, other.search.temperature) == (9, 0.0)
    assert other.search.c_puct == TINY.c_puct


def test_selfplay_uses_the_canonical_net_when_there_is_one(home: Path, net: Path) -> None:
    sha = make_canonical(Home(home), net)
    spec = selfplay.spec_of("hex8_2p", profile="tiny", seed=5)
    assert (spec.player, spec.weights, spec.games) == ("net", sha, TINY.games)
    assert selfplay.spec_of("hex8_2p", profile="tiny", seed=5, player="heuristic").weights is None
    with pytest.raises(OptionConflictError, match="--model is for --player net"):
        selfplay.spec_of("hex8_2p", profile="tiny", seed=5, player="random", model="canonical")


def test_fresh_seed_is_drawn_when_none_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    seeds = {dry_run(capsys, "canonical_selfplay", "--board", "hex8")["spec"]["seed"] for _ in range(2)}
    assert len(seeds) == 2
    assert dry_run(capsys, "canonical_selfplay", "--board", "hex8", "--seed", "4")["spec"]["seed"] == 4


@pytest.mark.parametrize("phase", ["npz_export", "parity_validation"])
@pytest.mark.parametrize("before", [["--backend", "ssh"], ["--backend", "p2p", "--p2p-leader", "http://127.0.0.1:9"]])
def test_R63_a_phase_that_is_done_here_says_so(
    phase: str, before: list[str], home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "games.db").touch()
    words = [*before, "run", phase, "--db", str(tmp_path / "games.db"), "--config", "hex8_2p"]
    assert main(["pipeline", *words]) == 2
    assert "is done here, where the games are" in capsys.readouterr().err
