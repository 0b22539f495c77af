"""docker-compose.yaml beside what it names: settings, commands, secrets, the Dockerfile, .env.example.

That the services also run is `make production-check`'s to show, by the same file.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from ringrift_ops.platform import alive, production
from ringrift_ops.platform.component import POOLS
from ringrift_ops.settings import Environment
from tests.production import compose
from tests.production.compose import PROJECT, Compose, Service

OTHER_VARIABLES = {
    "RINGRIFT_HOME": "ringrift_ops.home",
    "RINGRIFT_NUMBA_CACHE": "ringrift_ops.rules.compile",
    "RINGRIFT_EDGE_DOOR": "ringrift_ops.platform.component",
    "RINGRIFT_POOLS": "the command of init",
    "RINGRIFT_DOMAIN": "the Caddyfile",
}
"""Variables of ours that are no settings, and who reads them."""

FILE = Compose.read(compose.example())
SERVICES = list(FILE.services.values())
PROFILES = {profile for service in SERVICES for profile in service.profiles}


def named(services: list[Service]) -> list[str]:
    return [service.name for service in services]


def test_the_file_is_valid_by_the_specification_of_compose() -> None:
    command = [Path(sys.executable).with_name("check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
    answer = subprocess.run([*command, compose.FILE], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_the_example_names_exactly_the_variables_of_the_file_with_their_defaults() -> None:
    example = compose.example()
    text = compose.FILE.read_text(encoding="utf-8")
    defaults = dict(re.findall(r"\$\{([A-Z_]+):-([^}]*)\}", text))
    assert set(re.findall(r"\$\{([A-Z_]+)", text)) == set(defaults), "every variable has a default"
    assert example == defaults | {"COMPOSE_PROFILES": ""}
    for profile in PROFILES:
        assert profile in compose.EXAMPLE.read_text(encoding="utf-8")


def test_the_example_explains_every_line() -> None:
    lines = compose.EXAMPLE.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if re.match(r"[A-Z]", line):
            above = next(one for one in reversed(lines[:number]) if not re.match(r"[A-Z]", one))
            assert above.startswith("#"), f"nothing explains {line}"


def test_every_variable_of_ours_is_read_by_somebody() -> None:
    settings = {f"RINGRIFT_{name.upper()}" for name in Environment.model_fields}
    given = {name for one in SERVICES for name in FILE.environment(one) if name.startswith("RINGRIFT_")}
    assert given - settings == set(OTHER_VARIABLES) & given
    assert given - settings - set(OTHER_VARIABLES) == set()


def test_every_option_of_airflow_exists(airflow_options: set[str]) -> None:
    given = {name for one in SERVICES for name in one.environment if name.startswith("AIRFLOW__")}
    providers = {name for name in given if name.startswith(("AIRFLOW__CELERY", "AIRFLOW__EDGE"))}
    assert {name for name in given - providers if name.removesuffix("_CMD") not in airflow_options} == set()


@pytest.fixture(scope="module")
def airflow_options() -> set[str]:
    """The variables of all options in Airflow's own description of them."""
    import yaml

    spec = importlib.util.find_spec("airflow")
    assert spec is not None
    assert spec.origin is not None
    text = (Path(spec.origin).parent / "config_templates" / "config.yml").read_text(encoding="utf-8")
    return {
        f"AIRFLOW__{section.upper()}__{option.upper()}"
        for section, content in yaml.safe_load(text).items()
        for option in content["options"]
    }


@pytest.mark.parametrize("service", [one for one in SERVICES if one.is_ours], ids=lambda one: one.name)
def test_every_command_of_the_image_exists(service: Service) -> None:
    words = list(service.command)
    if words[0] == "sh":  # a script, one command a line
        lines = [line.removeprefix("exec ") for line in words[-1].splitlines()]
        words = next(shlex.split(line) for line in lines if line.startswith("ringrift"))
    if words[0] == "ringrift":
        from ringrift_ops.cli.app import app

        assert words[1] in typer.main.get_command(app).commands  # type: ignore[attr-defined]  # it is a group
    elif words[0] == "airflow":
        known = {"api-server", "scheduler", "dag-processor", "triggerer", "celery"}
        assert words[1] in known
    else:
        assert Path(sys.executable).with_name(words[0]).exists(), words[0]


def test_every_lasting_service_has_a_health_check_limits_of_memory_and_of_logs() -> None:
    lasting = [one for one in SERVICES if one.name != "init"]
    # The Edge worker is watched by its leader: it is heard of, or its work is lost.
    assert named([one for one in lasting if one.health is None]) == ["edge-worker"]
    assert named([one for one in SERVICES if "memory" not in one.raw["deploy"]["resources"]["limits"]]) == []
    assert (
        named([one for one in SERVICES if one.raw.get("logging", {}).get("options", {}).get("max-size") is None]) == []
    )
    assert named([one for one in lasting if not one.restarts]) == []


def test_every_health_check_of_the_image_is_one_that_exists() -> None:
    asked = [one.health.command for one in SERVICES if one.is_ours and one.health is not None]
    modules = [words for words in asked if words[:3] == ("python", "-m", "ringrift_ops.platform.alive")]
    assert {words[3] for words in modules} == set(alive.CHECKS)
    assert [words[2].split()[0] for words in asked if words not in modules] == ["celery", "celery"]


def test_two_schedulers_workers_by_queue_and_profiles_are_there() -> None:
    many = Compose.read(compose.example() | {"SCHEDULERS": "2", "CPU_WORKERS": "3"}).services
    assert (many["scheduler"].replicas, many["worker-cpu"].replicas) == (2, 3)
    queues = {one.name: one.command[one.command.index("--queues") + 1] for one in SERVICES if "celery" in one.command}
    assert queues == {"worker-cpu": "cpu", "worker-gpu": "gpu"}
    assert FILE.services["worker-gpu"].raw["deploy"]["resources"]["reservations"]["devices"]
    assert {"gpu", "edge", "tensorboard", "tls", "backup"} == PROFILES


def test_secrets_are_files_that_the_project_makes_and_stand_nowhere_else(tmp_path: Path) -> None:
    assert set(production.make_secrets(tmp_path / "secrets")) == set(FILE.raw["secrets"])
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    before = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert production.make_secrets(tmp_path / "secrets") == []
    assert {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()} == before
    for service in SERVICES:
        for name, value in service.environment.items():
            if re.search(r"PASSWORD|SECRET|_KEY|TOKEN|SQL_ALCHEMY_CONN|BROKER_URL|RESULT_BACKEND", name):
                assert name.endswith(("_CMD", "_FILE")), f"{service.name}: {name}"
            for secret in re.findall(r"/run/secrets/(\w+)", value):
                assert secret in service.secrets, f"{service.name} is not given {secret}"


def test_pools_of_init_are_those_of_the_project() -> None:
    import json

    assert set(json.loads(FILE.services["init"].environment["RINGRIFT_POOLS"])) == set(POOLS)


def test_everything_of_ours_runs_as_the_user_of_the_image_without_rights() -> None:
    assert compose.image_user() == ("ringrift", 50000)
    assert named([one for one in SERVICES if one.is_ours and (one.user is not None or not one.is_confined)]) == []


def test_the_image_has_what_the_services_need() -> None:
    ignored = (PROJECT / ".dockerignore").read_text(encoding="utf-8")
    for name in compose.image_copies():
        assert (PROJECT / name).exists(), name
        assert f"!{name}" in ignored or name.startswith("requirements"), f".dockerignore leaves {name} out"
    environment = compose.image_environment()
    for folder in ("dags", "plugins"):
        assert FILE.services["scheduler"].environment[f"AIRFLOW__CORE__{folder.upper()}_FOLDER"] == (
            f"{compose.image_folder()}/{folder}"
        )
    assert environment["RINGRIFT_HOME"] == FILE.services["scheduler"].environment["RINGRIFT_HOME"]


def test_a_user_without_a_password_is_named_and_a_short_password_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    admin, file = tmp_path / "admin", tmp_path / "passwords.json"
    admin.write_text("long enough for admin\n")
    monkeypatch.setenv(production.USERS_VARIABLE, "admin:admin,anna:viewer")
    assert production.main(["passwords", str(admin), str(file)]) == 2
    assert "no password for anna" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", (tmp_path / "short").open("w+"))
    assert production.main(["password", "anna", str(file)]) == 2
    (tmp_path / "typed").write_text("twelve letters\n")
    monkeypatch.setattr("sys.stdin", (tmp_path / "typed").open())
    assert production.main(["password", "anna", str(file)]) == 0
    assert production.main(["passwords", str(admin), str(file)]) == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert '"anna": "twelve letters"' in file.read_text()
