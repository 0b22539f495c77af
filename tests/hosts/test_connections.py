"""Airflow's connections are those of the inventory: pinned, without a key in them, good for users' own operators."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ringrift_ops.home import Home
from ringrift_ops.platform import connections
from ringrift_ops.platform.environment import Installation, Ports, component_environment, write_config
from tests.hosts.sshd import Sshd, new_key, write_inventory


@pytest.fixture
def place(home: Path) -> Home:
    return Home(home).ensure()


def test_a_connection_per_trusted_host_pins_its_key_and_names_our_own(place: Home, sshd: Sshd, tmp_path: Path) -> None:
    write_inventory(place, {
        "one": sshd.host("one", ssh_user="root"),
        "stranger": sshd.host("stranger", work_dir="/x").model_copy(update={"host_key": None}),
    })  # fmt: skip
    (row,) = connections.rows(place)
    assert (row.conn_id, row.host, row.port, row.login) == ("ringrift_one", "127.0.0.1", sshd.port, "root")
    extra = json.loads(row.extra)
    assert extra == {"host_key": sshd.host_key, "conn_timeout": 20, "key_file": str(sshd.client_key)}
    assert "PRIVATE" not in row.extra


def test_an_alias_of_the_ssh_config_is_followed(
    place: Home, sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "config").write_text(
        f"Host gpu\n  HostName 10.0.0.7\n  Port 2200\n  User ann\n  IdentityFile {sshd.client_key}\n"
    )
    host = sshd.host("one", ssh_host="gpu").model_copy(update={"ssh_port": None, "key_file": None})
    write_inventory(place, {"one": host})
    (row,) = connections.rows(place)
    assert (row.host, row.port, row.login) == ("10.0.0.7", 2200, "ann")
    assert json.loads(row.extra)["key_file"] == str(sshd.client_key)


_USE = """
import json, sys
from airflow.models.connection import Connection
from airflow.providers.ssh.hooks.ssh import SSHHook
from airflow.utils.session import create_session
from ringrift_ops.home import Home
from ringrift_ops.platform import component, connections
component.prepare({"selfplay": 1})
with create_session() as session:
    session.add(Connection(conn_id="mine", conn_type="ssh", host="elsewhere"))
with create_session() as session:
    found = session.query(Connection).filter(Connection.conn_id == "ringrift_one").one()
import os
os.environ["AIRFLOW_CONN_RINGRIFT_ONE"] = found.as_json() if hasattr(found, "as_json") else found.get_uri()
with SSHHook("ringrift_one").get_conn() as client:
    said = client.exec_command("echo $((6 * 7))")[1].read().decode().strip()
Home.find().inventory.write_text("hosts: {}\\n")
with create_session() as session:
    connections.make(Home.find(), session)
with create_session() as session:
    ours = [one.conn_id for one in session.query(Connection) if one.conn_type == "ssh"]
left = sorted(one for one in ours if not one.endswith("_default"))
print(json.dumps({"said": said, "left": left}))
"""


@pytest.mark.hosts_campaign
def test_users_own_operators_reach_a_host_by_its_connection_and_a_wrong_key_is_refused(
    place: Home, sshd: Sshd, tmp_path: Path
) -> None:
    """With the provider's own hook, Airflow's own database."""
    write_config(Installation(place), Ports(8080, 8081), workers=1)
    write_inventory(place, {"one": sshd.host("one", ssh_user="root")})
    assert json.loads(used(place).stdout.splitlines()[-1]) == {"said": "42", "left": ["mine"]}
    write_inventory(place, {"one": sshd.host("one", ssh_user="root", host_key=new_key(tmp_path / "other"))})
    answer = used(place)
    assert answer.returncode != 0
    assert "BadHostKeyException" in answer.stderr


def used(place: Home) -> subprocess.CompletedProcess[str]:
    environment = component_environment(os.environ, place)
    (place.airflow / "airflow.db").unlink(missing_ok=True)
    return subprocess.run([sys.executable, "-c", _USE], env=environment, capture_output=True, text=True, check=False)
