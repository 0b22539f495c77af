"""What a training mends by itself: each remedy helps once for real, and stops at its bound."""

from __future__ import annotations

from ringrift_ops.rules.compile import jit as _jit  # noqa: F401  isort: skip

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ringrift_ops.network import training
from ringrift_ops.network.checkpoints import NAME, DamagedCheckpointError, NotACheckpointError, chain
from ringrift_ops.network.dataset import TRAINING, VALIDATION, Dataset, open_dataset
from ringrift_ops.network.plan import Progress, Trained
from ringrift_ops.network.remedies import CORRUPT_CHECKPOINT, DIVERGENCE, OUT_OF_MEMORY, TrainingMemoryError
from ringrift_ops.network.trainees import Batch, Losses
from ringrift_ops.network.training import NoGoodCheckpointError
from ringrift_ops.network.watcher import DivergedError
from ringrift_ops.network.weights import fresh_network, save_network
from ringrift_ops.settings import CHECKS
from ringrift_ops.stages.specs import Remedy
from tests.network.samples import write_random_games
from tests.network.test_training import CONFIG, SPARSE, Stopped, plan_for, run, same_bits, stopping_after

ALL = frozenset({OUT_OF_MEMORY, DIVERGENCE, CORRUPT_CHECKPOINT})


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    path = tmp_path_factory.mktemp("data") / "d.npz"
    return open_dataset(write_random_games(path, CONFIG, 20, policies=True), CONFIG)


def small_memory(
    monkeypatch: pytest.MonkeyPatch, most: int, *, from_call: int = 0, error: type[BaseException] = MemoryError
) -> list[int]:
    """The device takes at most so many samples at once, from some call on; returns the sizes it was asked for.

    Stands for a GPU that is too small: this machine has none.
    """
    asked: list[int] = []
    made = training.trainee

    def small(*arguments: Any) -> Any:
        net = made(*arguments)
        whole = net.losses

        def losses(batch: Batch) -> Losses:
            asked.append(len(batch.rows))
            if len(asked) > from_call and len(batch.rows) > most:
                raise error("CUDA out of memory. Tried to allocate 2.00 GiB")
            return whole(batch)  # type: ignore[no-any-return]

        net.losses = losses
        return net

    monkeypatch.setattr(training, "trainee", small)
    return asked


def kinds(result: Trained) -> list[str]:
    return [one.kind for one in result.remedies]


def trained(dataset: Dataset, folder: Path, family: str = "sparse", **changes: Any) -> tuple[Trained, dict[int, float]]:
    """A training with all remedies, and its loss after each step."""
    curve: dict[int, float] = {}
    plan = plan_for(family, **{"remedies": ALL} | changes)
    result = run(
        plan, dataset, folder, progress=lambda p: curve.update({p.step: p.loss} if math.isfinite(p.loss) else {})
    )
    return result, curve


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "HEARTBEAT_SECONDS", 0.0)


@pytest.mark.usefixtures("every_step")
@pytest.mark.parametrize("family", ["sparse", "convolutional"])
@pytest.mark.parametrize("from_call", [0, 7])
def test_R19_memory_that_runs_out_halves_the_micro_batch_and_the_loss_curve_stays(
    family: str, from_call: int, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, expected = trained(dataset, tmp_path / "whole", family)
    with monkeypatch.context() as patch:
        asked = small_memory(patch, 40, from_call=from_call, error=torch.OutOfMemoryError)
        mended, curve = trained(dataset, tmp_path / "small", family)
    assert mended.micro_batch == 32
    assert set(kinds(mended)) == {OUT_OF_MEMORY}
    first = mended.remedies[0]
    assert (first.step, first.tries, first.bound) == (from_call, 1, 2 * CHECKS.memory_halvings)
    assert "the batch stays 128" in first.action
    assert "CUDA out of memory" in first.reason
    assert asked[from_call] == 128
    assert curve.keys() == expected.keys()
    assert len(curve) == whole.steps
    assert [curve[step] for step in curve] == pytest.approx([expected[step] for step in curve], rel=1e-3)
    assert mended.validation_loss == pytest.approx(whole.validation_loss, rel=1e-3)
    assert all(line.ok for line in mended.remedies[-1].verified)


def test_R19_a_resumed_training_keeps_its_micro_batch_bit_for_bit(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_memory(monkeypatch, 300)
    whole, _ = trained(dataset, tmp_path / "whole", batch_size=512, epochs=4)
    assert whole.micro_batch == 256
    with monkeypatch.context() as patch:
        stopping_after(whole.steps - 1, patch)
        with pytest.raises(Stopped):
            trained(dataset, tmp_path / "cut", batch_size=512, epochs=4)
    resumed, _ = trained(dataset, tmp_path / "cut", batch_size=512, epochs=4)
    assert resumed.resumed_from_step > 0
    assert same_bits(whole.network, resumed.network)
    assert [one.step for one in resumed.remedies] == [one.step for one in whole.remedies]


def test_R19_memory_that_is_never_enough_ends_at_the_bound_with_the_fix(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_memory(monkeypatch, 0)
    told: list[Remedy] = []
    with pytest.raises(
        TrainingMemoryError, match=r"step 0 .* even with 1 samples at once in its step, after 6 halvings.*host"
    ):
        run(plan_for(remedies=ALL, batch_size=64), dataset, tmp_path, notice=told.append)
    assert [one.tries for one in told] == [1, 2, 3, 4, 5, 6]
    few = CHECKS.model_copy(update={"memory_halvings": 2})
    with pytest.raises(TrainingMemoryError, match=r"even with 16 samples .* after 2 halvings"):
        run(plan_for(remedies=ALL, batch_size=64), dataset, tmp_path, checks=few)
    with pytest.raises(TrainingMemoryError, match=r"remedy out_of_memory is off; train with --batch-size 32"):
        run(plan_for(batch_size=64), dataset, tmp_path)


LIMITED = """
import json, resource, sys, torch
torch.backends.mkldnn.enabled = False
from pathlib import Path
from tests.network.test_remedies import LARGE
from tests.network.test_training import CONFIG, plan_for, run
from ringrift_ops.network.dataset import open_dataset
folder = Path(sys.argv[1])
data = open_dataset(folder / "d.npz", CONFIG)
run(plan_for("convolutional", epochs=1, data_subset=0.1), data, folder / "warm")
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + int(sys.argv[2]) * 10**6, resource.RLIM_INFINITY))
try:
    small = run(plan_for("convolutional", **LARGE, remedies=frozenset({"out_of_memory"})), data, folder / "small")
except Exception as error:
    print(json.dumps({"error": type(error).__name__, "message": str(error)}))
else:
    told = {"losses": [small.train_loss, small.validation_loss], "micro": small.micro_batch}
    print(json.dumps(told | {"reasons": [one.reason for one in small.remedies]}))
"""
LARGE: dict[str, Any] = {"sizes": {"blocks": 2, "channels": 32}, "batch_size": 1024, "epochs": 1}


def limited(dataset: Dataset, folder: Path, megabytes: int) -> dict[str, Any]:
    """What a training of ``LARGE`` comes to in a process that may really have only so much more memory."""
    (folder / "d.npz").hardlink_to(dataset.path)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(folder), str(megabytes)], capture_output=True, text=True, check=True
    )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


@pytest.mark.runbooks_campaign
def test_R19_a_process_that_is_really_out_of_memory_trains_on_with_the_same_losses(
    dataset: Dataset, tmp_path: Path
) -> None:
    told = limited(dataset, tmp_path, 120)
    assert told.get("micro", 1024) < 1024, told
    whole = run(plan_for("convolutional", **LARGE), dataset, tmp_path / "whole")
    assert told["losses"] == pytest.approx([whole.train_loss, whole.validation_loss], rel=1e-3)
    assert all("allocate" in reason or "memory" in reason.lower() for reason in told["reasons"])


# --- divergence ----------------------------------------------------------------------------------


def poisoned_after(step: int, times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights become NaN when a step is reached, so many times."""
    whole, left = training._Training._one_step, [times]

    def one_step(self: Any) -> None:
        if self.state.step == step and left[0] > 0:
            left[0] -= 1
            with torch.no_grad():
                next(self.net.module.parameters()).fill_(float("nan"))
        whole(self)

    monkeypatch.setattr(training._Training, "_one_step", one_step)


def test_R20_a_late_divergence_goes_back_to_the_last_good_checkpoint_and_on_slower(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned_after(11, 1, monkeypatch)
    monkeypatch.setattr(training, "HEARTBEAT_SECONDS", 0.0)
    rates: dict[int, float] = {}
    plan = plan_for(remedies=ALL, epochs=6, clip_norm=5.0)
    result = run(plan, dataset, tmp_path, progress=lambda p: rates.update({p.step: p.learning_rate}))
    assert kinds(result) == [DIVERGENCE]
    remedy = result.remedies[0]
    assert remedy.step == 8
    assert "8 bad batches in a row" in remedy.reason
    assert "back from step 18 to the checkpoint of step 8" in remedy.action
    assert "clip norm 1" in remedy.action
    assert rates[20] == pytest.approx(rates[19] * 0.96 ** (1 / 1000))
    assert 0.05 < rates[20] / 3e-3 < 0.1
    assert all(line.ok for line in remedy.verified if line.name == "no spikes since")
    assert np.isfinite(result.validation_loss)


def test_R20_a_really_diverging_loss_is_tamed_or_ends_at_the_bound(dataset: Dataset, tmp_path: Path) -> None:
    told: list[Remedy] = []
    result = run(plan_for(remedies=ALL, learning_rate=30.0), dataset, tmp_path / "a", notice=told.append)
    assert 1 <= len(told) <= CHECKS.divergence_tries
    assert "to the start" in told[0].action
    assert np.isfinite(result.validation_loss)
    with pytest.raises(DivergedError, match=r"it went back 3 times"):
        run(plan_for(remedies=ALL, learning_rate=1e9), dataset, tmp_path / "b")
    with pytest.raises(DivergedError, match=r"bad batches|first 30"):
        run(plan_for(learning_rate=30.0), dataset, tmp_path / "c")


def test_R20_divergence_on_every_retry_ends_at_the_bound_and_a_restart_counts_on(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned_after(6, 1000, monkeypatch)
    told: list[Remedy] = []
    with monkeypatch.context() as patch:
        stopping_after(9, patch)
        with pytest.raises(Stopped):
            run(plan_for(remedies=ALL), dataset, tmp_path, notice=told.append)
    assert told == []
    with pytest.raises(DivergedError, match="it went back 3 times, the last time to a rate of"):
        run(plan_for(remedies=ALL), dataset, tmp_path, notice=told.append)
    assert [one.tries for one in told] == [1, 2, 3]
    with pytest.raises(DivergedError, match="it went back 3 times"):
        run(plan_for(remedies=ALL), dataset, tmp_path, notice=told.append)
    assert len(told) == 3


# --- checkpoints ---------------------------------------------------------------------------------


def cut(dataset: Dataset, folder: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """A training that was killed after step 17 of 24."""
    with monkeypatch.context() as patch:
        stopping_after(17, patch)
        with pytest.raises(Stopped):
            run(plan_for(remedies=ALL, **changes), dataset, folder)


def corrupted(path: Path) -> Iterator[bytes]:
    content = path.read_bytes()
    half = len(content) // 2
    yield content[: len(content) // 3]
    yield content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]
    yield content[:-4096] + b"\0" * 4096
    yield b""
    yield b"\x80\x04\x95malicious pickle."


def test_R22_a_corrupt_checkpoint_is_set_aside_and_the_last_good_one_gives_the_same_bits(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(plan_for(remedies=ALL), dataset, tmp_path / "whole")
    cut(dataset, tmp_path / "a", monkeypatch)
    kept = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    for number, bad in enumerate(corrupted(tmp_path / "a" / NAME)):
        folder = tmp_path / f"bad{number}"
        folder.mkdir()
        for name, content in kept.items():
            (folder / name).write_bytes(bad if name == NAME else content)
        result = run(plan_for(remedies=ALL), dataset, folder)
        assert result.resumed_from_step == 12
        assert same_bits(whole.network, result.network)
        assert kinds(result) == [CORRUPT_CHECKPOINT]
        assert "on from step 12" in result.remedies[0].action
        assert all(line.ok for line in result.remedies[0].verified)
        assert (folder / f"{NAME}.corrupt").read_bytes() == bad


def test_R22_without_any_good_checkpoint_it_starts_from_its_parent_and_off_it_refuses(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = save_network(fresh_network(CONFIG, "sparse", SPARSE, 1), tmp_path / "p.safetensors")
    whole = run(plan_for(remedies=ALL), dataset, tmp_path / "whole", parent)
    folder = tmp_path / "a"
    with monkeypatch.context() as patch:
        stopping_after(17, patch)
        with pytest.raises(Stopped):
            run(plan_for(remedies=ALL), dataset, folder, parent)
    for path in chain(folder / NAME):
        path.write_bytes(b"nothing")
    with pytest.raises(DamagedCheckpointError):
        run(plan_for(), dataset, folder, parent)
    result = run(plan_for(remedies=ALL), dataset, folder, parent)
    assert result.resumed_from_step == 0
    assert kinds(result) == [CORRUPT_CHECKPOINT] * 3
    assert "anew from its parent" in result.remedies[0].action
    assert same_bits(whole.network, result.network)
    assert len(list(folder.glob("*.corrupt"))) == 3


def test_R22_a_given_checkpoint_that_is_corrupt_has_its_neighbours_and_a_pickle_is_left_alone(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut(dataset, tmp_path / "a", monkeypatch)
    (tmp_path / "a" / NAME).write_bytes(b"nothing")
    result = run(plan_for(remedies=ALL), dataset, tmp_path / "b", resume_from=tmp_path / "a" / NAME)
    assert result.resumed_from_step == 12
    for path in chain(tmp_path / "a" / NAME):
        path.unlink()
    (tmp_path / "a" / NAME).write_bytes(b"nothing")
    with pytest.raises(NoGoodCheckpointError, match="no older one is good"):
        run(plan_for(remedies=ALL), dataset, tmp_path / "c", resume_from=tmp_path / "a" / NAME)
    pickle = tmp_path / "mine.pth"
    pickle.write_bytes(b"PK\x03\x04 archive")
    with pytest.raises(NotACheckpointError, match="never opened"):
        run(plan_for(remedies=ALL), dataset, tmp_path / "c", resume_from=pickle)
    assert pickle.exists()


def test_R45_checkpoints_are_as_frequent_as_asked_and_so_many_are_kept(dataset: Dataset, tmp_path: Path) -> None:
    run(plan_for(), dataset, tmp_path / "three")
    assert [path.name for path in chain(tmp_path / "three" / NAME)] == [
        NAME, "checkpoint-1.safetensors", "checkpoint-2.safetensors",
    ]  # fmt: skip
    assert len(list((tmp_path / "three").iterdir())) == 3
    run(plan_for(keep_checkpoints=1), dataset, tmp_path / "one")
    assert [path.name for path in (tmp_path / "one").iterdir()] == [NAME]
    steps: list[int] = []
    saved = training._Training._save
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training._Training, "_save", lambda self: (steps.append(self.state.step), saved(self)))
        run(plan_for(checkpoint_every_epoch=True, checkpoint_every_steps=10_000), dataset, tmp_path / "epochs")
    whole = run(plan_for(keep_checkpoints=5), dataset, tmp_path / "epochs2")
    assert steps == [whole.steps // 3, whole.steps * 2 // 3, whole.steps]


# --- settings of the spec ------------------------------------------------------------------------


def test_R40_a_subset_takes_whole_games_uniformly_and_both_splits_keep_some(dataset: Dataset, tmp_path: Path) -> None:
    whole, part = dataset.samples_of(TRAINING), dataset.part_of(TRAINING, 0.3, 5)
    games = set(np.asarray(dataset.game)[part])
    assert len(games) == round(len(set(np.asarray(dataset.game)[whole])) * 0.3)
    assert set(part) == {sample for sample in whole if dataset.game[sample] in games}
    assert games != set(np.asarray(dataset.game)[dataset.part_of(TRAINING, 0.3, 6)])
    assert len(dataset.part_of(VALIDATION, 1e-6, 5)) > 0
    result = run(plan_for(data_subset=0.3, epochs=1), dataset, tmp_path)
    assert result.samples == len(part)


@pytest.mark.parametrize("family", ["sparse", "convolutional"])
def test_R40_mixed_precision_trains_in_half_the_bits_and_keeps_whole_weights(
    family: str, dataset: Dataset, tmp_path: Path
) -> None:
    whole = run(plan_for(family), dataset, tmp_path / "whole")
    mixed = run(plan_for(family, mixed_precision=True, cudnn_deterministic=True), dataset, tmp_path / "mixed")
    assert torch.backends.cudnn.deterministic
    assert not same_bits(whole.network, mixed.network)
    assert mixed.train_loss == pytest.approx(whole.train_loss, rel=0.02)
    assert mixed.served_difference <= CHECKS.served_tolerance
    run(plan_for(family, epochs=1, cudnn_benchmark=True), dataset, tmp_path / "fast")
    assert torch.backends.cudnn.benchmark
    assert not torch.backends.cudnn.deterministic


def test_R21_a_training_that_improves_no_more_stops_early_when_the_policy_says_so(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Progress] = []
    still = {"learning_rate": 1e-9, "epochs": 9}
    result = run(plan_for(**still, stop_after_epochs=3), dataset, tmp_path / "a", progress=seen.append)
    assert result.steps == 4 * (result.steps // 4)
    assert "early stopping after epoch 4 of 9: for 3 epochs" in result.stopped_early
    assert seen[-1].stale_epochs == 3
    again = run(plan_for(**still, stop_after_epochs=3), dataset, tmp_path / "a")
    assert again.resumed_from_step == result.steps
    assert again.stopped_early == result.stopped_early
    assert same_bits(result.network, again.network)
    to_the_end = run(plan_for(**still), dataset, tmp_path / "b")
    assert to_the_end.stopped_early == ""
    assert to_the_end.steps == result.steps // 4 * 9
