"""The inventory: read strictly, and no host connected to before its key is trusted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ringrift_ops.cli import main
from ringrift_ops.errors import ExitCode
from ringrift_ops.home import Home
from ringrift_ops.hosts.errors import UntrustedHostError
from ringrift_ops.hosts.keys import HostKey, trust, trusted_key, trusted_keys
from ringrift_ops.settings import Host, Inventory, InventoryError, UnknownHostError
from tests.hosts.sshd import Sshd, write_inventory

RUNBOOK = """\
hosts:
  lambda-gpu:
    ssh_host: lambda-gpu # SSH config alias
    role: mixed # selfplay + training
    capabilities:
      - gpu
      - large_memory
    max_parallel_jobs: 4

  ringrift-staging:
    ssh_host: ringrift-staging
    role: selfplay
    max_parallel_jobs: 2
"""


@pytest.fixture
def place(home: Path) -> Home:
    made = Home(home)
    made.config.mkdir(parents=True)
    return made


def written(place: Home, text: str) -> Inventory:
    place.inventory.write_text(text)
    return Inventory.load(place)


def test_R67_the_runbooks_own_file_is_an_inventory(place: Home) -> None:
    found = written(place, RUNBOOK)
    assert list(found.hosts) == ["lambda-gpu", "ringrift-staging"]
    gpu = found.host("lambda-gpu")
    assert (gpu.abilities, gpu.max_parallel_jobs, gpu.interpreter) == (
        {"gpu", "large_memory"}, 4, "ringrift/venv/bin/python",
    )  # fmt: skip
    assert (found.slots("selfplay"), found.slots("training")) == (6, 4)


def test_without_the_file_there_are_no_hosts(place: Home) -> None:
    assert not Inventory.load(place)
    with pytest.raises(UnknownHostError, match="there is no inventory"):
        Inventory.load(place).host("gpu1")


@pytest.mark.parametrize(
    ("change", "line", "message"),
    [
        ("role: mixd", 4, "'selfplay', 'training', 'mixed' or 'edge'"),
        ("rolle: mixed", 4, "did you mean role"),
        ("role: mixed\n    max_parallel_jobs: 0", 5, "greater than or equal to 1"),
        ("role: mixed\n    max_parallel_jobs: many", 5, "valid integer"),
        ("role: mixed\n    max_parallel_jobs: 2\n    ssh_port: 70000", 6, "less than or equal to 65535"),
        ("role: mixed\n    max_parallel_jobs: 2\n    capabilities: [gpu, gppu]", 6, "'gpu' or 'large_memory'"),
        ("role: mixed\n    max_parallel_jobs: 2\n    work_dir: ~/x", 6, "relative to the user's home"),
        ("role: mixed\n    max_parallel_jobs: 2\n    ssh_user: -oProxyCommand=x", 6, "a user name is needed"),
        ("role: mixed\n    max_parallel_jobs: 2\n    host_key: ssh-ed25519", 6, "a public key such as"),
        ("role: mixed\n    max_parallel_jobs: 2\n    memory_gb: -1", 6, "greater than 0"),
        ("role: mixed\n    max_parallel_jobs: 2\n    gpu: {memory_gb: 0}", 6, "greater than 0"),
        ("role: mixed\n    role: mixed", 5, "stands already in line 4"),
    ],
)
def test_R67_a_mistake_comes_back_with_its_line_and_what_is_allowed(
    place: Home, change: str, line: int, message: str
) -> None:
    with pytest.raises(InventoryError) as caught:
        written(place, f"hosts:\n  one:\n    ssh_host: one\n    {change}\n")
    told = [one for one in str(caught.value).splitlines() if f"line {line}:" in one]
    assert any(message in one for one in told), str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hots: {}", "line 1: only the key 'hosts'"),
        ("hosts: [a]", "hosts must map a name"),
        ("hosts:\n  ../x: {}", "line 2: '../x' is not a host's name"),
        ("hosts:\n  one: ssh", "line 2: one must be a mapping"),
        (RUNBOOK.replace("ringrift-staging:\n    ssh_host: ringrift-staging", "two:\n    ssh_host: lambda-gpu"),
         "line 10: two is lambda-gpu again"),
        (RUNBOOK.replace("ssh_host: lambda-gpu", "ssh_host: '-oProxyCommand=evil'"), "line 3: ssh_host"),
    ],
)  # fmt: skip
def test_R67_a_file_of_another_shape_is_refused(place: Home, text: str, message: str) -> None:
    with pytest.raises(InventoryError, match=message.replace("../x", r"\.\./x").replace("[", r"\[")):
        written(place, text)


def test_a_gpu_is_a_capability(place: Home) -> None:
    text = "hosts: {one: {ssh_host: a, role: training, max_parallel_jobs: 1, gpu: {name: T4, memory_gb: 15}}}"
    assert written(place, text).host("one").abilities == {"gpu"}


def test_an_untrusted_host_is_told_with_the_line_to_run(place: Home) -> None:
    host = Host(name="gpu1", ssh_host="gpu1", role="mixed", max_parallel_jobs=1)
    with pytest.raises(UntrustedHostError, match=r"ringrift cluster trust gpu1$"):
        trusted_key(place, host)
    trust(place, "gpu1", HostKey("ssh-ed25519 AAAA"))
    trust(place, "gpu2", HostKey("ssh-ed25519 BBBB"))
    assert trusted_key(place, host) == HostKey("ssh-ed25519 AAAA")
    assert set(trusted_keys(place)) == {"gpu1", "gpu2"}
    assert place.host_keys.stat().st_mode & 0o777 == 0o600


def test_R66_cluster_list_shows_the_inventory(place: Home, capsys: pytest.CaptureFixture[str]) -> None:
    written(place, RUNBOOK)
    assert main(["cluster", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["hosts"]
    assert [(row["host"], row["max_parallel_jobs"], row["key_trusted"]) for row in rows] == [
        ("lambda-gpu", 4, False), ("ringrift-staging", 2, False),
    ]  # fmt: skip
    assert main(["cluster", "list"]) == 0
    assert "large_memory" in capsys.readouterr().out


def test_trust_stores_the_key_that_was_compared_and_no_other(
    place: Home, sshd: Sshd, capsys: pytest.CaptureFixture[str]
) -> None:
    write_inventory(place, {"one": sshd.host().model_copy(update={"host_key": None})})
    fingerprint = HostKey(sshd.host_key).fingerprint
    assert main(["cluster", "trust", "one"]) == ExitCode.WRONG_USAGE
    told = capsys.readouterr()
    assert fingerprint in told.out
    assert "give --fingerprint" in told.err
    assert main(["cluster", "trust", "one", "--fingerprint", "SHA256:other"]) == ExitCode.GATE_SAID_NO
    assert trusted_keys(place) == {}
    assert main(["cluster", "trust", "one", "--fingerprint", fingerprint]) == ExitCode.DONE
    assert trusted_keys(place) == {"one": HostKey(sshd.host_key)}


def test_trust_of_a_host_whose_key_the_inventory_knows_otherwise_is_refused(place: Home, sshd: Sshd) -> None:
    other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGzL2Yk1Y5cCkSBfFQ1Q5mD0J7u1yqkSgQkJ8a0v8h2y"
    write_inventory(place, {"one": sshd.host(host_key=other)})
    assert main(["cluster", "trust", "one", "--yes"]) == ExitCode.GATE_SAID_NO
    assert trusted_keys(place) == {}


def test_R67_max_parallel_jobs_become_the_pools(place: Home) -> None:
    from ringrift_ops.platform.front import Front
    from ringrift_ops.platform.screen import Screen
    from ringrift_ops.settings import Settings

    front = Front(Settings.load(place), "tiny", Screen())
    assert front.slots()["training"] == 1
    written(place, RUNBOOK)
    assert front.slots() == {"selfplay": 6, "training": 4, "evaluation": 6, "default_pool": 128}
