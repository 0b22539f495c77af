"""A training's curves: what TensorBoard's own reader finds in them."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ringrift_ops.home import Home
from ringrift_ops.ledger import Ledger
from ringrift_ops.operations.retention import retention_plan
from ringrift_ops.stages import train
from ringrift_ops.stages.curves import curves_folder
from ringrift_ops.stages.heartbeat import silent
from ringrift_ops.store import WriteError
from tests.network.test_training import Stopped, stopping_after
from tests.stages.conftest import Made, changed


def points(folder: Path, name: str) -> dict[int, float]:
    read = EventAccumulator(str(folder)).Reload()
    found = [(one.step, one.value) for one in read.Scalars(name)]
    assert [step for step, _ in found] == sorted(step for step, _ in found)
    return dict(found)


def test_curves_of_a_training_that_was_killed_and_went_on_are_those_of_one_training(
    made: Made, house: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = changed(made.train, epochs=3, seed=31)
    stop = made.trained.steps // made.train.epochs + 2  # in the second epoch
    with monkeypatch.context() as patch:
        stopping_after(stop, patch)
        with pytest.raises(Stopped):
            train.run(asked, silent)
    folder = curves_folder(house, asked)
    begun = points(folder, "loss/train")
    assert 0 < max(begun) <= stop
    result = train.run(asked, silent)
    assert result.resumed_from_step > 0
    went_on = points(folder, "loss/train")
    assert max(went_on) == result.steps
    assert points(folder, "loss/validation")[result.steps] == pytest.approx(result.validation_loss)
    assert points(folder, "loss/epoch")[result.steps] == pytest.approx(result.train_loss)
    assert set(points(folder, "micro_batch").values()) == {float(asked.batch_size)}


@pytest.fixture
def full_logs(house: Home) -> Iterator[Path]:
    folder = house.logs / "tensorboard"
    folder.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(folder)], check=False)
    if mounted.returncode != 0:
        pytest.skip("only root mounts a tmpfs")
    (folder / "full").write_bytes(b"\0" * 4096)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnhandledThreadExceptionWarning"
)  # TensorBoard's own writer tells too
def test_F19_a_full_disk_under_the_curves_is_told(made: Made, full_logs: Path) -> None:
    with pytest.raises(WriteError, match="the disk is full"):
        train.run(changed(made.train, seed=32), silent)


def test_old_curves_go_by_retention(made: Made, house: Home) -> None:
    asked = changed(made.train, epochs=1, seed=33)
    train.run(asked, silent)
    (events,) = curves_folder(house, asked).iterdir()
    now = time.time()
    assert events not in [one.path for one in retention_plan(house, Ledger.open(), now).removals]
    later = retention_plan(house, Ledger.open(), now + 31 * 86_400).removals
    assert [one.why for one in later if one.path == events] == ["not written for 30 days"]
