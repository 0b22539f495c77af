"""Nets by their names: shown, linked, converted; and the ledger read at the command line."""

from __future__ import annotations

import json
import re
import subprocess
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from ringrift_ops.cli import main
from ringrift_ops.cli.ledger import TimeSpanError, moment
from ringrift_ops.errors import ExitCode
from ringrift_ops.home import Home
from ringrift_ops.hosts.jobs import Job
from ringrift_ops.hosts.local import LocalJobs
from ringrift_ops.ledger import EventType, Ledger, generation_lease
from ringrift_ops.network.weights import fresh_network, save_network
from ringrift_ops.store import Store

HEADER = {"config": "hex8_2p", "version": "1", "trained_at": "2026-01-02T03:04:05+00:00", "elo": "812"}


@pytest.fixture
def canonical(home: Path, tmp_path: Path) -> str:
    """A canonical net of hex8_2p, made from a dataset; its sha256."""
    path = tmp_path / "net.safetensors"
    save_file({"first": np.arange(6, dtype=np.float32).reshape(2, 3)}, path, metadata=HEADER)
    place = Home(home)
    sha, stored = Store(place).put(path, ".safetensors")
    dataset, dataset_path = Store(place).put(b"dataset", ".npz")
    ledger = Ledger.open()
    for one, kind, where, parents in (
        (dataset, "dataset", dataset_path, []),
        (sha, "weights", stored, [(dataset, "dataset")]),
    ):
        ledger.record_artifact(
            one, kind, place.relative(where), where.stat().st_size, "hex8_2p",  # type: ignore[arg-type]
            generation=None, parents=parents, meta={"samples": 1}, token=0,
        )  # fmt: skip
    lease = ledger.acquire_lease(generation_lease("hex8_2p"), "test")
    ledger.compare_and_swap_canonical(
        "hex8_2p", None, sha, lease.token, generation=None, reason="for the test", actor="test", kind="forced"
    )
    ledger.release_lease(lease.name, lease.token)
    return sha


def test_R55_show_tells_what_the_header_of_a_net_says(canonical: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "show", "hex8_2p", "--json"]) == ExitCode.DONE
    shown = json.loads(capsys.readouterr().out)
    assert (shown["sha256"], shown["canonical"], shown["tensors"]) == (canonical, True, ["first F32 [2, 3]"])
    assert {key: shown[key] for key in HEADER} == HEADER
    assert main(["model", "show", canonical[:10]]) == ExitCode.DONE
    assert "trained_at" in capsys.readouterr().out


def test_R55_links_that_are_missing_or_wrong_are_found_and_repaired(
    home: Path, canonical: str, capsys: pytest.CaptureFixture[str]
) -> None:
    best = Home(home).best_link("hex8_2p")
    best.parent.mkdir(parents=True, exist_ok=True)
    best.symlink_to("nowhere")
    stray = Home(home).best_link("hex8_3p")
    stray.symlink_to("nowhere")
    assert main(["model", "links"]) == ExitCode.INFRASTRUCTURE
    shown = capsys.readouterr()
    states = re.findall(r"(\S+)\.safetensors +(\w+)", shown.out)
    assert dict(states) == {
        "canonical_hex8_2p": "missing",
        "ringrift_best_hex8_2p": "wrong",
        "ringrift_best_hex8_3p": "stray",
    }
    assert "ringrift model links --repair" in shown.err
    assert main(["model", "links", "--repair", "--reason", "moved home"]) == ExitCode.DONE
    assert "3 repaired" in capsys.readouterr().out
    assert main(["model", "links", "--repair"]) == ExitCode.DONE
    told = [(row.config, row.door, row.reason, row.detail) for row in Ledger.open().audit()]
    assert told == [
        ("hex8_2p", "cli", "moved home",
         {"links": {"canonical_hex8_2p.safetensors": "missing", "ringrift_best_hex8_2p.safetensors": "wrong"}}),
        ("hex8_3p", "cli", "moved home", {"links": {"ringrift_best_hex8_3p.safetensors": "stray"}}),
    ]  # fmt: skip
    stored = Store(Home(home)).get(canonical)
    assert best.resolve() == Home(home).canonical_link("hex8_2p").resolve() == stored.resolve()
    assert not stray.is_symlink()
    assert main(["model", "links"]) == ExitCode.DONE


def test_R55_file_in_the_place_of_a_link_is_never_removed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    best = Home(home).best_link("hex8_3p")
    best.parent.mkdir(parents=True, exist_ok=True)
    best.write_text("somebody's net")
    assert main(["model", "links", "--repair"]) == ExitCode.INFRASTRUCTURE
    assert "move these files away by hand" in capsys.readouterr().err
    assert best.read_text() == "somebody's net"
    assert Ledger.open().audit() == [], "nothing was changed"


def test_R55_convert_writes_a_torch_file_with_the_same_weights_and_the_header(tmp_path: Path) -> None:
    net = save_network(fresh_network("hex8_2p", "sparse", {"hidden": 16, "dense": 16}, 1), tmp_path / "net.safetensors")
    target = tmp_path / "out" / "net.pth"
    words = ["model", "convert", str(tmp_path / "net.safetensors"), "--output", str(target)]
    assert main(words) == ExitCode.DONE
    content = torch.load(target, weights_only=True)  # noqa: TID251  what another tool would do
    assert (content["version"], content["trained_at"], content["elo"]) == ("0", "", "")
    assert content["metadata"]["sha256"] == net.sha256
    for name, tensor in net.tensors.items():
        assert content["model_state_dict"][name].numpy().tobytes() == tensor.tobytes()
    assert main([*words, "--to", "onnx"]) == ExitCode.WRONG_USAGE
    damaged = bytearray((tmp_path / "net.safetensors").read_bytes())
    damaged[-7] ^= 1
    (tmp_path / "net.safetensors").write_bytes(damaged)
    assert main(words) == ExitCode.NO_DATA
    assert main(["model", "show", str(tmp_path / "net.safetensors")]) == ExitCode.NO_DATA


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a pickled net", b"\x80\x04\x95", b"\xff" * 100])
def test_file_that_is_no_safetensors_is_one_clear_error(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "evil.pth"
    path.write_bytes(content)
    assert main(["model", "show", str(path)]) == ExitCode.WRONG_USAGE
    assert "is not a safetensors file" in capsys.readouterr().err


def test_lineage_goes_from_a_net_to_its_dataset_and_back(canonical: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lineage", canonical[:8]]) == ExitCode.DONE
    up = capsys.readouterr().out
    assert re.search(r"made from:\n +dataset +\w+ +dataset, hex8_2p, 7 bytes", up)
    dataset = json.loads(_json(capsys, "lineage", canonical))["ancestors"][0]["artifact"]["sha"]
    back = json.loads(_json(capsys, "lineage", dataset))
    assert [one["artifact"]["sha"] for one in back["descendants"]] == [canonical]
    assert main(["lineage", "ffffffff"]) == ExitCode.NO_DATA


def _json(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main([*arguments, "--json"]) == ExitCode.DONE
    return capsys.readouterr().out


def test_events_are_shown_by_type_and_time(canonical: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = json.loads(_json(capsys, "events", "--type", "MODEL_PROMOTED", "--since", "1h"))
    assert [(one["type"], one["config"]) for one in shown] == [("MODEL_PROMOTED", "hex8_2p")]
    assert canonical in json.dumps(shown)
    assert main(["events"]) == ExitCode.DONE
    assert EventType.LEASE_GRANTED.value in capsys.readouterr().out


def test_since_is_a_span_or_a_time() -> None:
    now = datetime(2026, 1, 2, tzinfo=UTC)
    assert moment("90m", now) == now - timedelta(minutes=90)
    assert moment("2d", now) == now - timedelta(days=2)
    assert moment("2026-01-01", now) == moment("2026-01-01T00:00:00+00:00", now) == now - timedelta(days=1)
    with pytest.raises(TimeSpanError, match="90m, 1h or 2d"):
        moment("soon", now)


def test_db_migrate_brings_a_new_ledger_up_and_then_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    first = json.loads(_json(capsys, "db", "migrate", "--url", url))
    again = json.loads(_json(capsys, "db", "migrate", "--url", url))
    assert (first["before"], again["before"]) == (None, first["now"])


def test_jobs_are_listed_shown_logged_and_ended(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    local, name = LocalJobs(home / "jobs"), "hex8_2p-g1-selfplay-s0"
    job = Job(
        job_id=name, argv=("sh", "-c", "seq 1 5; echo done; exec sleep 600"), spec={}, timeout_seconds=60.0,
        grace_seconds=1.0,
    )  # fmt: skip
    local.submit_or_adopt(job)
    try:
        while "done" not in local.log(name).text:
            assert not local.poll(name).over
        assert [(one["job_id"], one["state"]) for one in json.loads(_json(capsys, "jobs"))] == [(name, "running")]
        assert main(["jobs", name, "--logs", "--tail", "2"]) == ExitCode.DONE
        assert capsys.readouterr().out == "5\ndone\n"
        assert main(["jobs", name, "--kill"]) == ExitCode.DONE
        assert "killed on request" in capsys.readouterr().out
        assert main(["jobs", name, "--logs", "--follow"]) == ExitCode.DONE
        assert capsys.readouterr().out.splitlines()[1:7] == ["1", "2", "3", "4", "5", "done"]
    finally:
        local.kill_all()


def test_R55_a_malicious_pth_is_executed_by_no_command(home: Path, tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    pickled = b"cposix\nsystem\n(S'touch " + str(mark).encode() + b"'\ntR."
    plain, zipped, renamed = (tmp_path / name for name in ("plain.pth", "zipped.pth", "renamed.safetensors"))
    plain.write_bytes(pickled)
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", "3\n")
    renamed.write_bytes(zipped.read_bytes())
    for path in map(str, (plain, zipped, renamed)):
        for words in (
            ["model", "show", path],
            ["model", "convert", path, "--output", str(tmp_path / "out.pth")],
            ["promote", "--force", "--reason", "x", "--model", path, "--config", "hex8_2p"],
            ["evaluate", "hex8_2p", "--model", path, "--reason", "x"],
        ):
            assert main(words) in (ExitCode.WRONG_USAGE, ExitCode.NO_DATA, ExitCode.INFRASTRUCTURE), words
    assert not mark.exists()
    assert not (tmp_path / "out.pth").exists()
    subprocess.run(["touch", mark], check=True)  # what it would have done can be done here
