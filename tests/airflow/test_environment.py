"""What Airflow is told: secrets made once, ports that are free, nothing of another installation."""

from __future__ import annotations

import configparser
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ringrift_ops.errors import UsageError
from ringrift_ops.home import Home
from ringrift_ops.platform import environment as env
from ringrift_ops.platform.commands import _is_whole
from ringrift_ops.platform.environment import DamagedSecretsError, Installation, Ports, Secrets
from ringrift_ops.stages.specs import Stage


@pytest.fixture
def installation(home: Path) -> Installation:
    return Installation(Home(home).ensure())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_secrets_are_made_once_and_only_their_owner_can_read_them(installation: Installation) -> None:
    first = Secrets.of(installation)
    installation.secrets.chmod(0o644)
    assert Secrets.of(installation) == first
    env.write_config(installation, Ports(8080, 8081), workers=4)
    assert {mode(path) for path in (installation.secrets, installation.passwords, installation.config)} == {0o600}
    assert first != Secrets.of(Installation(Home(installation.home.root / "other").ensure()))


def test_passwords_of_users_whom_a_person_added_stay(installation: Installation) -> None:
    installation.passwords.write_text('{"vera": "v"}')
    kept = Secrets.of(installation)
    Secrets.of(installation)
    assert env.passwords_of(installation) == {"vera": "v", "admin": kept.password}
    assert mode(installation.passwords) == 0o600


def test_damaged_secrets_are_said_with_what_to_do(installation: Installation) -> None:
    installation.secrets.write_text("{")
    with pytest.raises(DamagedSecretsError, match="restore it, or delete it"):
        Secrets.of(installation)


def test_the_usual_port_is_taken_when_it_is_free_and_else_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr(env, "WEB_PORT", port)
        monkeypatch.setattr(env, "EXECUTION_PORT", port)
        found = Ports.find({})
    assert found.web > port
    assert found.execution > port
    assert found.web != found.execution


def test_platforms_that_start_at_the_same_moment_get_different_ports() -> None:
    choose = (
        "import sys; from ringrift_ops.platform.environment import Ports; sys.stdin.readline(); "
        "found = Ports.find({}); print(found.web, found.execution, flush=True); sys.stdin.readline()"
    )
    platforms = [
        subprocess.Popen([sys.executable, "-c", choose], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    for one in platforms:
        one.stdin.write("choose\n")  # none of them listens on what it chose, and all of them go on living
        one.stdin.flush()
    ports = [port for one in platforms for port in one.stdout.readline().split()]
    for one in platforms:
        one.communicate("end\n")
    assert len(ports) == len(set(ports)) == 16


def test_options_of_a_person_go_over_the_generated_ones(installation: Installation) -> None:
    installation.own_config.write_text("[scheduler]\nmax_tis_per_query = 7\n[core]\nparallelism = 9\n")
    env.write_config(installation, Ports(8080, 8081), workers=4)
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(installation.config)
    assert (parser["core"]["parallelism"], parser["scheduler"]["max_tis_per_query"]) == ("9", "7")
    assert parser["database"]["sql_alchemy_conn"].endswith("airflow.db?timeout=30")


def test_a_broken_file_of_options_is_wrong_usage_with_its_name(installation: Installation) -> None:
    installation.own_config.write_text("executor = Local\n")
    with pytest.raises(UsageError, match=r"config/airflow\.cfg: File contains no section headers"):
        env.write_config(installation, Ports(8080, 8081), workers=4)


def test_variables_of_another_installation_are_left_aside_and_connections_kept(installation: Installation) -> None:
    caller = {
        "AIRFLOW_HOME": "/elsewhere",
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
        "AIRFLOW_CONN_GPU1": "{}",
        "PATH": "/bin",
        "http_proxy": "http://proxy:3128",
    }
    home = installation.home
    assert env.foreign_variables(caller, home) == ["AIRFLOW_HOME", "AIRFLOW__CORE__EXECUTOR"]
    assert env.foreign_variables({"AIRFLOW_HOME": str(home.airflow)}, home) == []
    given = env.component_environment(caller, home)
    assert given["AIRFLOW_HOME"] == str(home.airflow)
    assert "AIRFLOW__CORE__EXECUTOR" not in given
    assert given["AIRFLOW_CONN_GPU1"] == "{}"
    assert "127.0.0.1" in given["no_proxy"]


@pytest.mark.parametrize("folder", ["home", "a home with 'quotes' & spaces"])
@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_the_env_file_makes_any_shell_mean_this_installation(tmp_path: Path, folder: str, shell: str) -> None:
    home = Home(tmp_path / folder).ensure()
    env.write_env(home)
    done = subprocess.run(
        [shell, "-uec", '. "$0"; . "$0"; env', str(home.env)],
        env={"PATH": "/usr/bin:/bin", "AIRFLOW__CORE__EXECUTOR": "Foreign", "AIRFLOW_CONN_GPU1": "{}"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    seen = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert (seen["RINGRIFT_HOME"], seen["AIRFLOW_HOME"]) == (str(home.root), str(home.airflow))
    assert "AIRFLOW__CORE__EXECUTOR" not in seen
    assert "AIRFLOW_CONN_GPU1" in seen
    assert seen["PATH"].count(":") == 2


@pytest.mark.parametrize(
    ("conf", "whole"),
    [
        ({"profile": "tiny"}, True),
        ({"profile": "tiny", "stages": list(Stage), "force": False}, True),
        ({"profile": "tiny", "stages": list(Stage), "games": None, "candidate": None, "priority": "normal"}, True),
        ({"profile": "quick"}, False),
        ({"profile": "tiny", "stages": ["gauntlet", "promote"], "candidate": "ab" * 32}, False),
        ({"profile": "tiny", "force": True}, False),
        ({}, False),
    ],
)
def test_make_run_takes_up_only_what_makes_a_whole_generation(conf: dict[str, Any], whole: bool) -> None:
    assert _is_whole(conf, "tiny") is whole
