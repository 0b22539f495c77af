"""Training, gauntlet, promotion and distribution as stages: only evidence moves the canonical net."""

from __future__ import annotations

from ringrift_ops.rules.compile import jit as _jit  # noqa: F401  isort: skip

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from ringrift_ops.cli import main
from ringrift_ops.errors import ExitCode
from ringrift_ops.home import Home
from ringrift_ops.ledger import EventType, Lease, Ledger, StaleTokenError, generation_lease
from ringrift_ops.network.checkpoints import ForeignCheckpointError, MissingCheckpointError
from ringrift_ops.network.dataset import DamagedDatasetError, open_dataset
from ringrift_ops.network.plan import NoSuchDeviceError
from ringrift_ops.network.weights import DamagedWeightsError, load_network, read_header
from ringrift_ops.settings import CHECKS
from ringrift_ops.stages import delivering, distribute, gauntlet, promote, selfplay, train
from ringrift_ops.stages.checkpoints import checkpoint_folder
from ringrift_ops.stages.gauntlet import WrongNetError
from ringrift_ops.stages.heartbeat import silent
from ringrift_ops.stages.promote import NoEvaluationError
from ringrift_ops.stages.recording import record_gauntlet
from ringrift_ops.stages.specs import (
    DistributeSpec,
    ExportSpec,
    GauntletSpec,
    PromoteSpec,
    SearchSettings,
    SelfplaySpec,
    TrainResult,
    TrainSpec,
    Verdict,
)
from ringrift_ops.stages.train import EpochTimeoutError, TrainingTimeoutError
from ringrift_ops.store import DamagedObjectError, Store, replace_symlink, sha256_file
from tests.hosts.test_distribution import promoted
from tests.stages.conftest import COMMON, CONFIG, Made, changed, gauntlet_spec, selfplay_spec, spec_file

LONG = {"epochs": 6, "checkpoint_every_steps": 5}
"""A training that lasts long enough to be killed in the middle."""


def started(folder: Path, stage: str, spec: BaseModel) -> subprocess.Popen[str]:
    """The stage as the process that a job is."""
    folder.mkdir()
    command = [sys.executable, "-m", "ringrift_ops.cli", stage, "--spec", str(spec_file(folder, spec))]
    command += ["--result", str(folder / "result.json")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def trained_by_process(folder: Path, spec: TrainSpec) -> TrainResult:
    process = started(folder, "train", spec)
    output, _ = process.communicate()
    assert process.returncode == ExitCode.DONE, output
    return TrainResult.model_validate_json((folder / "result.json").read_text())


def killed_after_a_checkpoint(folder: Path, home: Home, spec: TrainSpec) -> Path:
    """Start the training, kill it with SIGKILL once a checkpoint lies there; return the checkpoint."""
    checkpoint = train.checkpoint_folder(home, spec) / "checkpoint.safetensors"
    process = started(folder, "train", spec)
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.002)
    process.kill()
    output, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL, output
    return checkpoint


def lease_of(ledger: Ledger) -> Lease:
    return ledger.acquire_lease(generation_lease(CONFIG), "test")


def make_canonical(home: Home, sha: str) -> None:
    ledger = Ledger.open()
    lease = lease_of(ledger)
    ledger.compare_and_swap_canonical(
        CONFIG, None, sha, lease.token, generation=None, reason="for the test", actor="test", kind="forced"
    )
    ledger.release_lease(lease.name, lease.token)
    promote.repair_links(home, ledger)


# --- training -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        (SelfplaySpec, ["weights"]),
        (ExportSpec, ["databases", "window"]),
        (TrainSpec, ["dataset", "dataset_path", "parent", "resume_from"]),
        (GauntletSpec, ["candidate", "candidate_path", "previous", "previous_path"]),
        (PromoteSpec, ["candidate", "report"]),
        (DistributeSpec, ["weights"]),
    ],
)
def test_F2_nothing_that_says_where_data_or_a_parent_came_from_has_a_default(
    model: type[BaseModel], fields: list[str]
) -> None:
    with pytest.raises(ValidationError) as refused:
        model()
    missing = {one["loc"][0] for one in refused.value.errors() if one["type"] == "missing"}
    assert set(fields) <= missing


def test_F2_a_net_says_what_it_was_made_from(made: Made) -> None:
    header, sha = read_header(Home(made.root).resolve(made.trained.path))
    assert sha == made.trained.weights
    assert (header.dataset, header.parent, header.config) == (made.exported.dataset, "", CONFIG)
    assert TrainSpec.model_validate_json(header.train_spec) == made.train
    assert made.trained.samples > 0


def test_a_training_names_its_net_as_asked_and_the_store_keeps_it(made: Made, house: Home, tmp_path: Path) -> None:
    trained = train.run(changed(made.train, output=str(tmp_path / "net.safetensors")), silent)
    assert sha256_file(tmp_path / "net.safetensors") == trained.weights
    assert (tmp_path / "net.safetensors").resolve() == house.resolve(trained.path)


def test_F2_a_child_starts_where_its_parent_stopped(made: Made, house: Home) -> None:
    spec = changed(made.train, parent=made.trained.weights, learning_rate=1e-4)
    child = train.run(spec, silent)
    assert child.parent_validation_loss is not None
    assert child.first_epoch_loss <= child.parent_validation_loss * CHECKS.parent_loss_ratio
    header, _ = read_header(house.resolve(child.path))
    assert (header.parent, header.version) == (made.trained.weights, "2")


def test_F5_what_is_served_is_what_was_trained(made: Made) -> None:
    assert made.trained.served_difference <= CHECKS.served_tolerance


def test_F5_damaged_weights_play_no_move(made: Made, house: Home) -> None:
    path = house.resolve(made.trained.path)
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    net = {"player": "net", "weights": made.trained.weights, "search": SearchSettings(simulations=2, temperature=0.0)}
    with pytest.raises(DamagedObjectError, match="not those it was stored with"):
        selfplay.run(selfplay_spec(games=2, seed=22, **net), silent)
    with pytest.raises(Exception, match="altered"):
        gauntlet.run(changed(made.gauntlet, seed=3), silent)


def test_F4_R18_a_killed_training_leaves_the_canonical_net_alone_and_goes_on_to_the_same_bits(
    made: Made, house: Home, tmp_path: Path
) -> None:
    make_canonical(house, made.trained.weights)
    links = [house.canonical_link(CONFIG), house.best_link(CONFIG)]
    spec = changed(made.train, parent=made.trained.weights, learning_rate=1e-4, **LONG)
    whole = trained_by_process(tmp_path / "whole", spec)
    checkpoint = killed_after_a_checkpoint(tmp_path / "killed", house, spec)
    assert [sha256_file(link) for link in links] == [made.trained.weights] * 2
    elsewhere = tmp_path / "copy.safetensors"
    elsewhere.write_bytes(checkpoint.read_bytes())

    resumed = trained_by_process(tmp_path / "resumed", spec)
    assert 0 < resumed.resumed_from_step < resumed.steps == whole.steps
    assert same_tensors(house, whole, resumed)
    assert (resumed.train_loss, resumed.validation_loss) == (whole.train_loss, whole.validation_loss)
    assert not checkpoint.exists()
    assert Ledger.open().canonical(CONFIG).sha == made.trained.weights  # type: ignore[union-attr]  # there is one

    named = trained_by_process(tmp_path / "named", changed(spec, resume_from=str(elsewhere)))
    assert named.resumed_from_step == resumed.resumed_from_step
    assert same_tensors(house, whole, named)


def same_tensors(home: Home, one: TrainResult, other: TrainResult) -> bool:
    nets = [load_network(home.resolve(result.path), CONFIG) for result in (one, other)]
    return all(nets[0].tensors[name].tobytes() == nets[1].tensors[name].tobytes() for name in nets[0].tensors)


def test_R17_a_checkpoint_that_is_not_there_or_another_trainings_is_refused(
    made: Made, house: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(MissingCheckpointError, match="there is no checkpoint") as told:
        train.run(changed(made.train, resume_from=str(tmp_path / "none.safetensors")), silent)
    assert told.value.exit_code == ExitCode.NO_DATA
    words = ["train", "--config", CONFIG, "--data", str(house.resolve(made.exported.path)), "--resume-from", "none"]
    assert main(words) == ExitCode.NO_DATA
    assert "--resume-from none: no such file" in capsys.readouterr().err

    other = killed_after_a_checkpoint(tmp_path / "other", house, changed(made.train, seed=99, **LONG))
    mine = changed(made.train, seed=98, **LONG)
    with pytest.raises(ForeignCheckpointError, match="another training"):
        train.run(changed(mine, resume_from=str(other)), silent)
    assert not (train.checkpoint_folder(house, mine) / "checkpoint.safetensors").exists()


def test_R17_going_on_from_a_checkpoint_needs_no_seed(made: Made, house: Home) -> None:
    from ringrift_ops.cli.train import spec_of

    folder = train.checkpoint_folder(house, made.train)
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text(made.train.model_dump_json())
    (folder / "checkpoint.safetensors").touch()
    data = house.resolve(made.exported.path)
    for named in (folder, folder / "checkpoint.safetensors"):
        spec = spec_of(CONFIG, data, profile="tiny", seed=None, resume_from=named)
        assert (spec.seed, spec.resume_from) == (made.train.seed, str(named))
    assert spec_of(CONFIG, data, profile="tiny", seed=5, resume_from=folder).seed == 5


@pytest.mark.parametrize(
    ("device", "complaint"), [("cuda:9", "finds"), ("gpu", "no device 'gpu'"), ("cuda:x", "no device 'cuda:x'")]
)
def test_a_device_that_is_not_there_is_told_before_anything_is_trained(
    made: Made, house: Home, device: str, complaint: str
) -> None:
    spec = changed(made.train, device=device)
    with pytest.raises(NoSuchDeviceError, match=complaint):
        train.run(spec, silent)
    assert not train.checkpoint_folder(house, spec).exists()


def test_F19_a_dataset_with_a_flipped_bit_is_not_trained_on(made: Made, house: Home) -> None:
    path = house.resolve(made.exported.path)
    content = bytearray(path.read_bytes())
    content[open_dataset(path, CONFIG).ply.offset] ^= 1  # type: ignore[attr-defined]  # it is mapped; nothing looks wrong
    path.chmod(0o644)
    path.write_bytes(content)
    with pytest.raises(DamagedDatasetError, match="it was changed"):
        train.run(made.train, silent)
    assert list((house.training / "checkpoints").iterdir()) == []


# --- gauntlet -------------------------------------------------------------------------------------


def test_F8_the_net_that_is_judged_is_the_net_that_was_named(made: Made, house: Home) -> None:
    other = train.run(changed(made.train, seed=77), silent)
    with pytest.raises(WrongNetError, match=f"holds the net {other.weights[:12]}, not {made.trained.weights[:12]}"):
        gauntlet.run(changed(made.gauntlet, candidate_path=other.path), silent)


def test_R53_a_net_that_was_trained_elsewhere_is_put_on_record_and_judged(
    made: Made, home: Path, tmp_path: Path
) -> None:
    file = tmp_path / "net.safetensors"
    file.write_bytes(Home(made.root).resolve(made.trained.path).read_bytes())
    judged = gauntlet.run(changed(made.gauntlet, candidate_path=str(file), mirror_games=0), silent)
    net = Ledger.open().artifact(made.trained.weights)
    assert (net.kind, net.config, judged.candidate) == ("weights", CONFIG, net.sha)
    assert sha256_file(Home(home).resolve(net.path)) == net.sha


def test_R77_a_file_from_elsewhere_is_checked_and_stored_by_every_verb_that_takes_a_net(
    made: Made, home: Path, tmp_path: Path
) -> None:
    from ringrift_ops.cli.nets import net_in_store

    file = tmp_path / "net.safetensors"
    content = Home(made.root).resolve(made.trained.path).read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DamagedWeightsError, match="altered"):
        net_in_store(str(file), CONFIG, "--model")
    assert not (Home(home).store).exists()
    file.write_bytes(content)
    words = ["selfplay", "--config", CONFIG, "--num-games", "1", "--model", str(file), "--simulations", "1"]
    assert main(words) == ExitCode.DONE
    net = net_in_store(str(file), CONFIG, "--model")
    assert net.path == Store(Home(home)).get(made.trained.weights)
    assert Ledger.open().artifact(net.sha).kind == "weights"
    assert main(["distribute", "--config", CONFIG, "--model", str(file), "--to", str(tmp_path / "to")]) == ExitCode.DONE


def test_R53_a_gauntlet_that_leaves_out_the_net_in_force_is_no_evidence(made: Made, house: Home) -> None:
    from ringrift_ops.cli.gauntlet import spec_of

    make_canonical(house, made.trained.weights)
    other = train.run(changed(made.train, seed=78), silent)
    asked = spec_of(CONFIG, other.weights, profile="tiny", seed=1, opponents="random,heuristic", simulations=0)
    judged = gauntlet.run(changed(asked, games_per_look=2, cap=2, mirror_games=0), silent)
    assert asked.previous == made.trained.weights
    assert judged.verdict is not Verdict.PASS


def test_gauntlet_keeps_every_game_and_shows_the_mirror(made: Made) -> None:
    judged = made.judged
    assert (judged.verdict, judged.reason) == (Verdict.FAIL, judged.reason)
    assert "inconclusive" in judged.reason
    assert [(one.opponent, one.games, one.errors) for one in judged.opponents] == [
        ("random", 8, 0),
        ("heuristic", 8, 0),
    ]
    assert judged.mirror is not None
    assert judged.mirror.games == 4
    report = json.loads(Home(made.root).resolve(judged.path).read_text())
    assert len(report["games"]["random"]) == 4
    assert report["gate"]["gate_version"] == judged.gate_version


def test_F10_a_gauntlet_without_games_is_no_evidence_and_promotes_nothing(
    made: Made, house: Home, tmp_path: Path
) -> None:
    spec = gauntlet_spec(made.trained, opponents=[], mirror_games=0)
    judged = gauntlet.run(spec, silent)
    assert judged.verdict is Verdict.NO_EVIDENCE
    assert main(["gauntlet", "--spec", str(spec_file(tmp_path, spec))]) == ExitCode.NO_DATA
    assert not promote.run(promotion(made, judged.report), silent).promoted
    assert Ledger.open().canonical(CONFIG) is None


def test_F11_the_same_game_over_and_over_is_no_evidence(made: Made, house: Home) -> None:
    """A cap of one move makes both games of an opening the same."""
    judged = gauntlet.run(gauntlet_spec(made.trained, max_moves=1, mirror_games=0), silent)
    assert judged.verdict is Verdict.NO_EVIDENCE
    assert judged.reason == "random: games_repeated; heuristic: games_repeated"
    assert all(one.distinct_fraction < 0.95 for one in judged.opponents)


# --- promotion ------------------------------------------------------------------------------------


def promotion(made: Made, report: str, **fields: object) -> PromoteSpec:
    asked = {
        **COMMON, "candidate": made.trained.weights, "candidate_path": made.trained.path, "report": report,
        "report_path": "", "auto_promote": True,
    }  # fmt: skip
    return PromoteSpec(**(asked | fields))  # type: ignore[arg-type]  # validated by the model


def granted(home: Home) -> dict[str, int]:
    """A generation with its lease: the fields that its specs carry."""
    ledger = Ledger.open()
    run = ledger.ensure_generation(CONFIG, None, "run", datetime.now(UTC), "tiny")
    lease = ledger.try_grant_generation(run.id)
    assert lease is not None
    return {"generation": run.id, "token": lease.token}


def passing_report(home: Home, made: Made, **fields: int) -> str:
    """The real gauntlet as it would stand in the ledger had it passed."""
    sha, path = Store(home).put(b'{"verdict": "PASS"}', ".json")
    result = changed(
        made.judged, report=sha, path=str(home.relative(path)), verdict=Verdict.PASS, reason="every opponent passed"
    )
    record_gauntlet(home, changed(made.gauntlet, **fields), result, [])
    return sha


def event_names(ledger: Ledger) -> list[str]:
    return [str(event.type) for event in ledger.events(config=CONFIG)]


def test_R54_training_evaluation_and_a_refused_promotion_are_on_record(made: Made, house: Home) -> None:
    answer = promote.run(promotion(made, made.judged.report), silent)
    assert (answer.promoted, answer.canonical) == (False, None)
    assert "FAIL" in answer.reason
    names = event_names(Ledger.open())
    assert {EventType.TRAINING_COMPLETED, EventType.EVALUATION_COMPLETED, EventType.MODEL_PROMOTION_FAILED} <= set(
        names
    )
    assert EventType.MODEL_PROMOTED not in names
    assert not house.canonical_link(CONFIG).exists()


def test_R54_a_net_is_promoted_on_evidence_once_however_often_it_is_asked(made: Made, house: Home) -> None:
    fields = granted(house)
    spec = promotion(made, passing_report(house, made, **fields), **fields)
    first = promote.run(spec, silent)
    assert (first.promoted, first.canonical, first.previous) == (True, made.trained.weights, None)
    again = promote.run(spec, silent)
    assert (again.promoted, again.canonical) == (True, made.trained.weights)
    ledger = Ledger.open()
    assert len(ledger.promotions(CONFIG)) == 1
    assert event_names(ledger).count(EventType.MODEL_PROMOTED) == 1
    for link in (house.canonical_link(CONFIG), house.best_link(CONFIG)):
        assert sha256_file(link) == made.trained.weights


def test_a_promotion_with_an_old_token_or_without_a_report_moves_nothing(made: Made, house: Home) -> None:
    fields = granted(house)
    report = passing_report(house, made, **fields)
    with pytest.raises(StaleTokenError):
        promote.run(promotion(made, report, **(fields | {"token": fields["token"] + 1})), silent)
    with pytest.raises(NoEvaluationError, match="run the gauntlet"):
        promote.run(promotion(made, "e" * 64, **fields), silent)
    another = train.run(changed(made.train, seed=79), silent)
    with pytest.raises(NoEvaluationError, match=f"is about {made.trained.weights[:12]}"):
        promote.run(promotion(made, report, candidate=another.weights, **fields), silent)
    assert EventType.MODEL_PROMOTION_FAILED not in event_names(Ledger.open())
    held = promote.run(promotion(made, report, auto_promote=False, **fields), silent)
    assert (held.promoted, "by hand" in held.reason) == (False, True)
    assert Ledger.open().canonical(CONFIG) is None
    assert not house.canonical_link(CONFIG).exists()


# --- distribution ---------------------------------------------------------------------------------


def distribution(made: Made, *destinations: Path) -> DistributeSpec:
    return DistributeSpec(**COMMON, weights=made.trained.weights, destinations=[str(one) for one in destinations])


def test_distribution_is_verified_by_hash_and_told_where_it_fails(made: Made, house: Home, tmp_path: Path) -> None:
    good, damaged, last = (tmp_path / name for name in ("good", "damaged", "last"))
    in_the_way, read_only = tmp_path / "file", Path("/proc/ringrift")
    in_the_way.touch()
    name = f"{CONFIG}_{made.trained.weights[:16]}.safetensors"
    damaged.mkdir()
    (damaged / name).write_bytes(b"half a net")
    result = distribute.run(distribution(made, good, in_the_way, read_only, damaged, last), silent)
    assert [one.verified for one in result.deliveries] == [True, False, False, True, True]
    assert all(one.error for one in result.deliveries if not one.verified)
    assert f"{in_the_way} is a file: move it away" in str(result.deliveries[1].error)
    for folder in (good, damaged, last):
        assert sha256_file(folder / name) == made.trained.weights
        assert (folder / f"canonical_{CONFIG}.safetensors").resolve() == folder / name
    rows = Ledger.open().deliveries(made.trained.weights)
    assert {row.destination: row.verified for row in rows} == {
        str(good): True, str(in_the_way): False, str(read_only): False, str(damaged): True, str(last): True,
    }  # fmt: skip


def test_a_destination_that_got_nothing_is_named_in_one_line(
    made: Made, house: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = spec_file(tmp_path, distribution(made, tmp_path / "good", Path("/proc/ringrift")))
    assert main(["distribute", "--spec", str(spec)]) == ExitCode.INFRASTRUCTURE
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ringrift:")]
    assert line.startswith("ringrift: not delivered to /proc/ringrift: ")
    assert "good" not in line


def test_distribution_again_changes_nothing_and_a_damaged_source_reaches_nobody(
    made: Made, house: Home, tmp_path: Path
) -> None:
    good, other = tmp_path / "good", tmp_path / "other"
    (first,) = distribute.run(distribution(made, good), silent).deliveries
    written = Path(first.path).stat().st_mtime_ns
    distribute.run(distribution(made, good), silent)
    assert Path(first.path).stat().st_mtime_ns == written
    source = house.resolve(made.trained.path)
    source.chmod(0o644)
    source.write_bytes(source.read_bytes()[:-1])
    with pytest.raises(DamagedObjectError):
        distribute.run(distribution(made, other), silent)
    assert not other.exists()


def test_in_a_folder_the_canonical_name_never_goes_back_and_a_promotion_meanwhile_takes_it(
    house: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, overtook = tmp_path / "nets", list[str]()
    link = folder / f"canonical_{CONFIG}.safetensors"

    def delivered(sha: str) -> str:
        spec = DistributeSpec(**COMMON, weights=sha, destinations=[str(folder)])
        return distribute.run(spec, silent).deliveries[0].state

    def promoted_meanwhile(link: Path, target: Path) -> None:
        if not overtook:
            overtook.append(promoted(house))
        replace_symlink(link, target)

    older, newer = promoted(house), promoted(house)
    assert [delivered(newer), delivered(older)] == ["verified", "stale"]
    assert sha256_file(link) == newer
    assert sha256_file(folder / f"{CONFIG}_{older[:16]}.safetensors") == older
    monkeypatch.setattr(delivering, "replace_symlink", promoted_meanwhile)
    assert delivered(newer) == "stale"
    assert sha256_file(link) == overtook[0]
    assert [row.state for row in Ledger.open().deliveries(overtook[0])] == ["verified"]


def test_R40_a_slow_training_ends_in_its_own_words_and_its_checkpoints_are_those_of_any_limit(
    made: Made, house: Home
) -> None:
    limited = changed(made.train, epoch_seconds=1e-9, total_seconds=1e-6, seed=4_711)
    with pytest.raises(TrainingTimeoutError, match=r"the training of hex8_2p took longer .*--timeout"):
        train.run(limited, silent)
    clock = train._EpochClock(changed(limited, total_seconds=9e9))
    clock.check(1)
    with pytest.raises(EpochTimeoutError, match=r"epoch 1 of hex8_2p took longer .*--epoch-timeout"):
        clock.check(1)
    clock.check(2)
    assert checkpoint_folder(house, limited) == checkpoint_folder(
        house, changed(limited, epoch_seconds=9.0, total_seconds=9.0)
    )
