"""Weights on disk: what is loaded is exactly what was saved, or a named error."""

from __future__ import annotations

from ringrift_ops.rules.compile import jit as _jit  # noqa: F401  isort: skip

import json
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from ringrift_ops.errors import ExitCode, RingRiftError
from ringrift_ops.ledger import Ledger
from ringrift_ops.network.shapes import tensor_shapes
from ringrift_ops.network.weights import (
    DamagedWeightsError,
    ForeignWeightsError,
    Header,
    MissingWeightsError,
    Network,
    convert_to_pth,
    fresh_network,
    load_network,
    new_header,
    read_header,
    safetensors_bytes,
    save_network,
    weights_bytes,
    with_tensors,
)
from ringrift_ops.rules.game import game

CONFIG = "hex8_2p"
SIZES = {"hidden": 16, "dense": 16, "policy": 16}


@pytest.fixture
def net() -> Network:
    return fresh_network(CONFIG, "sparse", SIZES, 3)


def saved_with(net: Network, path: Path, **changes: object) -> Path:
    save_network(Network(replace(net.header, **changes), net.tensors, ""), path)
    return path


@pytest.mark.parametrize(("family", "sizes"), [("sparse", SIZES), ("convolutional", {"blocks": 1, "channels": 8})])
def test_a_net_comes_back_as_it_was_saved(tmp_path: Path, family: str, sizes: dict[str, int]) -> None:
    net = fresh_network("square8_3p", family, sizes, 1)
    saved = save_network(net, tmp_path / "a.safetensors")
    back = load_network(tmp_path / "a.safetensors", "square8_3p")
    assert back.header == saved.header
    assert back.sha256 == saved.sha256
    assert set(back.tensors) == set(net.tensors)
    assert all((back.tensors[k] == net.tensors[k]).all() for k in net.tensors)
    assert weights_bytes(back) == weights_bytes(net), "the same net gives the same bytes"


def test_R55_the_file_is_safetensors_and_its_header_says_what_it_is(tmp_path: Path, net: Network) -> None:
    header = new_header(
        CONFIG, "sparse", SIZES, parent="a" * 64, dataset="b" * 64, train_spec='{"epochs":1}', version="2",
        trained_at="2026-01-01T00:00:00Z", loss="0.5",
    )  # fmt: skip
    path = tmp_path / "a.safetensors"
    saved = save_network(with_tensors(net, header, net.tensors), path)
    assert set(safetensors.numpy.load_file(path)) == set(net.tensors)
    with safetensors.safe_open(path, "np") as opened:
        metadata = opened.metadata()
    assert metadata["version"] == "2"
    assert metadata["trained_at"] == "2026-01-01T00:00:00Z"
    assert metadata["elo"] == ""
    assert read_header(path) == (header, saved.sha256)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("config", "hex8_3p"),
        ("config", "square8_2p"),
        ("encoder_version", "0"),
        ("encoder_digest", "0" * 64),
        ("policy_encoding", "legacy_max_n"),
        ("rules_version", "0"),
    ],
)
def test_F5_weights_of_another_making_are_refused_by_field(
    tmp_path: Path, net: Network, field: str, value: str
) -> None:
    other = fresh_network(value, "sparse", SIZES, 3) if field == "config" else net
    path = saved_with(other, tmp_path / "a.safetensors", **{field: value})
    with pytest.raises(ForeignWeightsError, match=f"a.safetensors: field {field}"):
        load_network(path, CONFIG)


def _with_metadata(net: Network, **changes: str | None) -> bytes:
    text = {**net.header.as_text(), "digest": "x", **changes}
    return safetensors_bytes({k: v for k, v in text.items() if v is not None}, net.tensors)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "field format"),
        ({"elo": None}, "missing: \\['elo'\\]"),
        ({"colour": "red"}, "unknown: \\['colour'\\]"),
        ({"sizes": "{"}, "field sizes"),
        ({"sizes": '{"hidden": "64"}'}, "field sizes"),
        ({"digest": "0" * 64}, "field digest"),
        ({"digest": None}, "field digest"),
    ],
)
def test_a_header_that_is_not_whole_is_refused_by_field(
    tmp_path: Path, net: Network, changes: dict[str, str | None], message: str
) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(_with_metadata(net, **changes))
    with pytest.raises(RingRiftError, match=message):
        load_network(path, CONFIG)


def test_a_family_that_does_not_exist_is_refused(net: Network) -> None:
    with pytest.raises(RingRiftError, match="family"):
        weights_bytes(Network(replace(net.header, family="other"), net.tensors, ""))


@pytest.mark.parametrize("change", ["missing", "extra", "shape", "dtype", "nan", "infinite"])
def test_tensors_that_do_not_fit_are_refused_by_name(net: Network, change: str) -> None:
    tensors = {k: v.copy() for k, v in net.tensors.items()}
    if change == "missing":
        del tensors["dense_bias"]
    elif change == "extra":
        tensors["more"] = np.zeros(1, np.float32)
    elif change == "shape":
        tensors["dense_bias"] = np.zeros(17, np.float32)
    elif change == "dtype":
        tensors["dense_bias"] = tensors["dense_bias"].astype(np.float64)
    else:
        tensors["dense_bias"][3] = np.nan if change == "nan" else np.inf
    expected = DamagedWeightsError if change in ("nan", "infinite") else ForeignWeightsError
    with pytest.raises(expected, match="more" if change == "extra" else "dense_bias"):
        with_tensors(net, net.header, tensors)


def test_nan_weights_on_disk_are_refused_though_their_digest_fits(
    tmp_path: Path, net: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = {**net.tensors, "dense_bias": np.full(16, np.nan, np.float32)}
    path = tmp_path / "a.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr("ringrift_ops.network.weights._check_tensors", lambda *_: None)
        save_network(Network(net.header, tensors, ""), path)
    with pytest.raises(DamagedWeightsError, match="dense_bias holds 16"):
        load_network(path, CONFIG)


def test_every_truncation_and_every_flipped_bit_is_found(tmp_path: Path, net: Network) -> None:
    content = weights_bytes(net)
    path = tmp_path / "a.safetensors"
    draws = random.Random(1)
    header_end = 8 + int.from_bytes(content[:8], "little")
    damaged = [content[:n] for n in (*range(0, len(content), 4096), len(content) - 1)]
    damaged.append(content[:-100] + bytes(100))
    for _ in range(300):
        place = draws.randrange(header_end if draws.random() < 0.7 else len(content))
        bit = 1 << draws.randrange(8)
        damaged.append(content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :])
    for bad in damaged:
        path.write_bytes(bad)
        with pytest.raises(RingRiftError, match=r"a\.safetensors"):
            load_network(path, CONFIG)


@pytest.mark.parametrize("content", [b"PK\x03\x04", b"\x80\x02}q\x00.", b"", b"SQLite format 3\0" * 10, b"\0" * 64])
def test_foreign_files_are_never_opened_as_weights(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(content)
    with pytest.raises((ForeignWeightsError, DamagedWeightsError), match=r"a\.pth"):
        load_network(path, CONFIG)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError, match="none"):
        load_network(tmp_path / "none", CONFIG)
    with pytest.raises(ForeignWeightsError, match="folder"):
        load_network(tmp_path, CONFIG)


def test_a_header_nested_without_end_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes((200_000).to_bytes(8, "little") + b"[" * 200_000)
    with pytest.raises(DamagedWeightsError, match="cannot be read"):
        load_network(path, CONFIG)


def test_a_foreign_safetensors_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    safetensors.numpy.save_file({"x": np.zeros(3, np.float32)}, path)
    with pytest.raises(ForeignWeightsError, match="no metadata"):
        load_network(path, CONFIG)


def test_R55_a_net_converts_to_pth_for_other_tools(tmp_path: Path, net: Network) -> None:
    import zipfile

    path = tmp_path / "a.safetensors"
    save_network(net, path)
    made = convert_to_pth(path, tmp_path / "a.pth")
    assert zipfile.is_zipfile(made)
    with pytest.raises(ForeignWeightsError, match="pickle or zip"):
        load_network(made, CONFIG)


def test_R55_a_full_disk_is_told_when_a_net_is_converted(tmp_path: Path, net: Network) -> None:
    save_network(net, tmp_path / "a.safetensors")
    code = (
        "import sys, resource\nfrom ringrift_ops.cli import main\nimport torch\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))\nsys.exit(main(sys.argv[1:]))"
    )
    words = ["model", "convert", str(tmp_path / "a.safetensors"), "--output", str(tmp_path / "a.pth")]
    Ledger.open()  # made before, so that the limit meets the converted file only
    answer = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert answer.returncode == ExitCode.INFRASTRUCTURE, answer.stderr
    assert answer.stderr.count("\n") == 1
    assert "cannot write" in answer.stderr
    assert not (tmp_path / "a.pth").exists()


def test_lineage_has_no_defaults() -> None:
    with pytest.raises(TypeError):
        new_header(CONFIG, "sparse", SIZES)  # type: ignore[call-arg]
    assert {"parent", "dataset", "train_spec"} <= set(Header.__dataclass_fields__)
    assert json.loads(fresh_network(CONFIG, "sparse", SIZES, 1).header.as_text()["sizes"]) == SIZES
    assert set(tensor_shapes(game(CONFIG).geometry, "sparse", SIZES)) >= {"cell_rows", "value_rows"}


def test_a_header_whose_length_begins_as_a_pickle_does_is_not_taken_for_one(tmp_path: Path, net: Network) -> None:
    """One header in 32 has such a length."""
    path = tmp_path / "a.safetensors"
    for more in range(0, 264, 8):
        saved_with(net, path, train_spec="x" * more)
        if path.read_bytes()[:1] == b"\x80":
            break
    assert path.read_bytes()[:1] == b"\x80"
    assert load_network(path, CONFIG).config == CONFIG
