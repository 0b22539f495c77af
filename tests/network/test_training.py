"""Training: it learns, resumes bit for bit, and refuses what it should."""

from __future__ import annotations

from ringrift_ops.rules.compile import jit as _jit  # noqa: F401  isort: skip

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ringrift_ops.errors import GateError
from ringrift_ops.network import sparse_training, training
from ringrift_ops.network.checkpoints import NAME, DamagedCheckpointError, ForeignCheckpointError, chain
from ringrift_ops.network.dataset import TRAINING, Dataset, EmptyDatasetError, open_dataset
from ringrift_ops.network.epochs import WorseThanParentError
from ringrift_ops.network.plan import ParentMismatchError, Plan, Progress, Trained, learning_rate_at
from ringrift_ops.network.probe import probe
from ringrift_ops.network.trainees import SparseTrainee, batch_of, trainee
from ringrift_ops.network.training import train
from ringrift_ops.network.validation import ServedDifferentlyError, evaluate_split, served_difference
from ringrift_ops.network.watcher import DivergedError, GradientWatcher
from ringrift_ops.network.weights import Network, fresh_network, load_network, save_network
from ringrift_ops.rules.game import game
from tests.network.samples import write_random_games

CONFIG = "hex8_2p"
SPARSE = {"hidden": 32, "dense": 16, "policy": 16}
CONVOLUTIONAL = {"blocks": 1, "channels": 8}
SHA = "d" * 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def dataset(folder: Path) -> Dataset:
    return open_dataset(write_random_games(folder / "d.npz", CONFIG, 20, policies=True), CONFIG)


def plan_for(family: str = "sparse", **changes: Any) -> Plan:
    plan = Plan(
        config=CONFIG,
        family=family,
        sizes=SPARSE if family == "sparse" else CONVOLUTIONAL,
        epochs=3,
        batch_size=128,
        learning_rate=3e-3,
        weight_decay=1e-4,
        clip_norm=1.0,
        seed=5,
        device="cpu",
        threads=1,
        checkpoint_every_steps=4,
    )
    return replace(plan, **changes)


def run(plan: Plan, dataset: Dataset, folder: Path, parent: Network | None = None, **more: Any) -> Trained:
    arguments = {"dataset_sha": SHA, "parent_sha": parent.sha256 if parent else None, "train_spec": "{}"}
    return train(plan, dataset, parent, folder=folder, **{**arguments, **more})


def same_bits(a: Network, b: Network) -> bool:
    return all(a.tensors[k].tobytes() == b.tensors[k].tobytes() for k in a.tensors)


class Stopped(Exception):  # noqa: N818
    """Stands for a kill."""


def stopping_after(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = training._Training._one_step

    def one_step(self: Any) -> None:
        if self.state.step == step:
            raise Stopped
        whole(self)

    monkeypatch.setattr(training._Training, "_one_step", one_step)


@pytest.mark.parametrize("family", ["sparse", "convolutional"])
def test_training_learns_and_serves_what_it_learnt(family: str, dataset: Dataset, tmp_path: Path) -> None:
    seen: list[Progress] = []
    result = run(plan_for(family), dataset, tmp_path, progress=seen.append)
    assert result.samples == len(dataset.samples_of(TRAINING)) > 0
    assert result.train_loss < result.first_epoch_loss
    fresh = fresh_network(CONFIG, family, result.network.sizes, 5)
    before = evaluate_split(
        trainee(family, game(CONFIG), fresh.sizes, fresh.tensors, "cpu"), dataset, dataset.samples_of(TRAINING)
    )
    assert result.train_loss < before.loss * 0.97
    assert result.served_difference <= 1e-4
    assert result.network.header.dataset == SHA
    assert result.network.header.parent == ""
    assert result.network.header.version == "1"
    assert seen[-1].step == seen[-1].steps == result.steps
    saved = save_network(result.network, tmp_path / "a.safetensors")
    assert same_bits(load_network(tmp_path / "a.safetensors", CONFIG), saved)


@pytest.mark.parametrize("family", ["sparse", "convolutional"])
@pytest.mark.parametrize("step", [1, 9, 17, "last"])
def test_R18_a_resumed_training_is_bit_for_bit_the_uninterrupted_one(
    family: str, step: int | str, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_for(family)
    whole = run(plan, dataset, tmp_path / "whole")
    stop = whole.steps - 1 if step == "last" else int(step)
    with monkeypatch.context() as patch:
        stopping_after(stop, patch)
        with pytest.raises(Stopped):
            run(plan, dataset, tmp_path / "cut")
    torch.manual_seed(99)
    resumed = run(plan, dataset, tmp_path / "cut")
    assert resumed.resumed_from_step == stop // 4 * 4
    assert same_bits(whole.network, resumed.network)
    assert resumed.validation_loss == whole.validation_loss
    assert resumed.train_loss == whole.train_loss
    assert resumed.first_epoch_loss == whole.first_epoch_loss


def test_a_finished_training_asked_again_trains_no_step(dataset: Dataset, tmp_path: Path) -> None:
    whole = run(plan_for(), dataset, tmp_path)
    again = run(plan_for(), dataset, tmp_path)
    assert again.resumed_from_step == whole.steps
    assert same_bits(whole.network, again.network)


def test_a_checkpoint_of_another_training_or_a_damaged_one_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    run(plan_for(epochs=1), dataset, tmp_path)
    with pytest.raises(ForeignCheckpointError, match="another training"):
        run(plan_for(epochs=1, learning_rate=1e-3), dataset, tmp_path)
    with pytest.raises(ForeignCheckpointError):
        run(plan_for(epochs=1), dataset, tmp_path, dataset_sha="e" * 64)
    content = (tmp_path / NAME).read_bytes()
    half = len(content) // 2
    flipped = content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]
    for bad in (content[:1000], content[:-5], flipped, b""):
        (tmp_path / NAME).write_bytes(bad)
        with pytest.raises(DamagedCheckpointError, match="checkpoint"):
            run(plan_for(epochs=1), dataset, tmp_path)


def test_F2_a_child_starts_from_its_parent(dataset: Dataset, tmp_path: Path) -> None:
    parent = save_network(run(plan_for(), dataset, tmp_path / "one").network, tmp_path / "p.safetensors")
    child = run(plan_for(learning_rate=1e-3), dataset, tmp_path / "two", parent)
    assert child.parent_validation_loss is not None
    assert child.first_epoch_loss <= child.parent_validation_loss * 1.1
    assert child.network.header.parent == parent.sha256
    assert child.network.header.version == "2"


def test_F2_a_start_that_is_not_the_parents_is_found_after_one_epoch(dataset: Dataset, tmp_path: Path) -> None:
    parent = save_network(run(plan_for(epochs=8), dataset, tmp_path / "one").network, tmp_path / "p.safetensors")
    with pytest.raises(WorseThanParentError, match="first epoch"):
        run(plan_for(learning_rate=10.0, clip_norm=100.0), dataset, tmp_path / "two", parent)


def test_F2_a_parent_that_is_not_the_one_asked_for_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    parent = save_network(fresh_network(CONFIG, "sparse", SPARSE, 1), tmp_path / "p.safetensors")
    with pytest.raises(ParentMismatchError, match="asked for"):
        run(plan_for(), dataset, tmp_path, parent, parent_sha="f" * 64)
    with pytest.raises(ParentMismatchError, match="asked for"):
        run(plan_for(), dataset, tmp_path, None, parent_sha=parent.sha256)


@pytest.mark.parametrize("changes", [{"sizes": {"hidden": 64, "dense": 16, "policy": 16}}, {"family": "convolutional"}])
def test_F3_a_parent_of_another_shape_is_refused_before_training(
    dataset: Dataset, tmp_path: Path, changes: dict[str, Any]
) -> None:
    parent = save_network(fresh_network(CONFIG, "sparse", SPARSE, 1), tmp_path / "p.safetensors")
    with pytest.raises(ParentMismatchError, match=next(iter(changes))):
        run(replace(plan_for(), **changes), dataset, tmp_path, parent)


def test_F5_serving_other_weights_than_were_trained_is_found(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disturbed(network: Network, header: Any, tensors: Any) -> Network:
        changed = {**tensors, "value_bias": tensors["value_bias"] + np.float32([0.01, 0])}
        return Network(header, changed, "")

    monkeypatch.setattr(training, "with_tensors", disturbed)
    with pytest.raises(ServedDifferentlyError, match="256 positions"):
        run(plan_for(epochs=1), dataset, tmp_path)


@pytest.mark.parametrize("config", ["square8_3p", "hex8_4p", "hexagonal_2p", "square19_2p"])
@pytest.mark.parametrize("family", ["sparse", "convolutional"])
def test_F5_training_forward_and_serving_agree_in_every_geometry(config: str, family: str) -> None:
    net = fresh_network(config, family, SPARSE if family == "sparse" else CONVOLUTIONAL, 3)
    rng = np.random.default_rng(0)
    tensors = {k: rng.normal(0, 0.1, v.shape).astype(np.float32) for k, v in net.tensors.items()}
    loud = Network(net.header, tensors, "")
    side = trainee(family, game(config), net.sizes, tensors, "cpu")
    assert served_difference(side, loud, 32, 7) < 1e-4


def test_F4_training_writes_its_checkpoints_and_nothing_else(dataset: Dataset, tmp_path: Path) -> None:
    run(plan_for(epochs=1), dataset, tmp_path / "folder")
    assert sorted((tmp_path / "folder").iterdir()) == sorted(chain(tmp_path / "folder" / NAME))


def test_F2_a_dataset_without_validation_games_is_no_evidence(tmp_path: Path) -> None:
    path = write_random_games(tmp_path / "d.npz", CONFIG, 3, policies=False)
    with pytest.raises(EmptyDatasetError, match="validation"):
        run(plan_for(), open_dataset(path, CONFIG), tmp_path)


def test_games_without_policies_train_the_values_alone(tmp_path: Path) -> None:
    path = write_random_games(tmp_path / "d.npz", "square8_3p", 10, policies=False)
    data = open_dataset(path, "square8_3p")
    result = train(
        plan_for(config="square8_3p", epochs=2), data, None, dataset_sha=SHA, parent_sha=None, train_spec="",
        folder=tmp_path / "c",
    )  # fmt: skip
    fresh = fresh_network("square8_3p", "sparse", SPARSE, 5)
    assert (result.network.tensors["value_rows"] != fresh.tensors["value_rows"]).any()
    assert result.validation_loss < 2.0


def test_kernels_give_the_losses_and_gradients_of_torch(dataset: Dataset) -> None:
    net = fresh_network(CONFIG, "sparse", SPARSE, 1)
    rng = np.random.default_rng(1)
    tensors = {k: rng.normal(0, 0.1, v.shape).astype(np.float32) for k, v in net.tensors.items()}
    side = SparseTrainee(game(CONFIG), net.sizes, tensors, "cpu")
    batch = batch_of(dataset, dataset.samples_of(TRAINING)[:200])
    cut = int(batch.indptr[1])
    bare = np.maximum(batch.indptr - cut, 0)  # the first sample carries no policy
    batch = batch._replace(indptr=bare, indices=batch.indices[cut:], shares=batch.shares[cut:])
    entries = side.net.entries(batch.rows, batch.indptr, batch.indices)
    inputs = side.net.inputs(batch.rows)

    def gradients(kernels: bool) -> tuple[float, dict[str, np.ndarray]]:
        side.net.zero_grad()
        if kernels:
            outputs, query = side.net(inputs)
            loss = side.net.policy_loss(query, entries, batch.indptr, batch.shares)
        else:
            table = side.net.get_parameter("cell_rows")
            owner = np.repeat(np.arange(len(batch.rows)), np.diff(inputs.starts))
            summed = torch.zeros(len(batch.rows), SPARSE["hidden"]).index_add(
                0, torch.from_numpy(owner), table[torch.from_numpy(inputs.active).long()]
            )
            p = side.net.get_parameter
            hidden = torch.relu(summed + p("hidden_bias") + torch.from_numpy(inputs.numbers) @ p("global_rows"))
            dense = torch.relu(hidden @ p("dense_rows") + p("dense_bias"))
            outputs = dense @ p("value_rows").T + p("value_bias")
            query = hidden @ p("query_rows") + p("query_bias")
            logits = side.net.logits(query, entries, batch.indptr)
            loss = sparse_training.segment_cross_entropy(logits, batch.indptr, batch.shares)
        loss = loss / 7 + outputs.square().sum()
        loss.backward()
        return float(loss.detach()), {n: p.grad.numpy().copy() for n, p in side.net.named_parameters()}

    fast, plain = gradients(True), gradients(False)
    assert fast[0] == pytest.approx(plain[0], rel=1e-4)
    for name, gradient in plain[1].items():
        np.testing.assert_allclose(fast[1][name], gradient, atol=2e-4 * max(1.0, float(np.abs(gradient).max())))


def test_a_policy_reaches_the_moves_that_it_names(dataset: Dataset) -> None:
    """Cross-entropy over legal moves only: equal logits cost the log of their number."""
    net = fresh_network(CONFIG, "sparse", SPARSE, 1)
    flat = {k: np.zeros_like(v) if k.endswith("_rows") and "cell" not in k else v for k, v in net.tensors.items()}
    side = SparseTrainee(game(CONFIG), net.sizes, flat, "cpu")
    picked = dataset.samples_of(TRAINING)[:50]
    batch = batch_of(dataset, picked)
    expected = np.log(np.diff(batch.indptr)).sum()
    assert float(side.losses(batch).policy.detach()) == pytest.approx(expected, rel=1e-4)


def test_the_learning_rate_warms_up_and_falls_to_its_floor() -> None:
    rates = [learning_rate_at(s, 1000, 1.0) for s in range(1000)]
    assert rates[0] < 0.1
    assert max(rates) == pytest.approx(1.0)
    assert rates.index(max(rates)) < 60
    assert rates[-1] == pytest.approx(0.02, abs=1e-3)
    assert learning_rate_at(0, 1, 1.0) == 1.0


@pytest.mark.parametrize(
    ("norms", "stops_at"),
    [
        ([1.0] * 40 + [float("nan")] * 8, 48),
        ([1.0] * 40 + [51.0] * 8, 48),
        ([1.0, 1e9] * 15, None),
        (([1e9] * 7 + [1.0]) * 3, None),
        (([1.0] * 3 + [1e9]) * 24 + [1.0] * 4, None),
        (([1.0] * 3 + [1e9]) * 25, 100),
    ],
)
def test_the_gradient_watcher_stops_what_is_beyond_hope(norms: list[float], stops_at: int | None) -> None:
    watcher = GradientWatcher(1.0)
    stopped = None
    for step, norm in enumerate(norms, 1):
        try:
            watcher.saw(norm, step)
        except DivergedError:
            stopped = step
            break
    assert stopped == stops_at


def test_none_good_in_the_first_thirty_stops_even_without_eight_in_a_row() -> None:
    from ringrift_ops.settings.tables import CHECKS

    watcher = GradientWatcher(1.0, CHECKS.model_copy(update={"gradient_bad_in_a_row": 1000}))
    for step in range(1, 30):
        watcher.saw(float("inf"), step)
    with pytest.raises(DivergedError, match="first 30"):
        watcher.saw(float("inf"), 30)


def test_a_diverging_training_is_a_gates_no(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: torch.tensor(float("nan")))
    with pytest.raises(GateError, match="8 bad batches"):
        run(plan_for(), dataset, tmp_path)


def test_probe_positions_offer_a_choice_and_are_the_same_for_a_seed() -> None:
    a, b = probe("hex8_3p", 20, seed=3), probe("hex8_3p", 20, seed=3)
    assert (a.states == b.states).all()
    assert (a.counts >= 2).all()
    assert len(a.indices) == a.counts.sum() == a.indptr[-1]
