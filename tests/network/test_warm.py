"""Compiling ahead covers what export and training call."""

from __future__ import annotations

from ringrift_ops.rules.compile import jit as _jit  # noqa: F401  isort: skip

from pathlib import Path

from ringrift_ops.network import encoder, sparse_training, trainees
from ringrift_ops.network.dataset import open_dataset
from ringrift_ops.network.warm import warm
from ringrift_ops.rules.game import game
from tests.network.samples import write_random_games
from tests.network.test_training import SHA, plan_for, train


def test_after_warming_a_training_compiles_nothing_more(tmp_path: Path) -> None:
    rules = game("hex8_2p")
    warm(rules)
    compiled = (
        encoder.features_of_rows,
        encoder.first_bad_row,
        sparse_training.sum_rows,
        sparse_training.spread_rows,
        sparse_training.policy_rows,
        sparse_training.policy_logits,
        sparse_training.softmax_errors,
        sparse_training.spread_policy,
        trainees._gather,
    )
    path = write_random_games(tmp_path / "d.npz", "hex8_2p", 6, policies=True)
    before = [len(f.signatures) for f in compiled]
    assert all(before)
    train(
        plan_for(epochs=1), open_dataset(path, "hex8_2p"), None,
        dataset_sha=SHA, parent_sha=None, train_spec="", folder=tmp_path,
    )  # fmt: skip
    assert [len(f.signatures) for f in compiled] == before
