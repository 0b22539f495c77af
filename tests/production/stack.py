"""The services of the compose file, up: started in order, restarted when they die, asked for their health."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ringrift_ops.errors import InfrastructureError
from ringrift_ops.home import Home
from ringrift_ops.ledger import Ledger
from ringrift_ops.platform.api import Api
from ringrift_ops.platform.production import make_secrets
from tests.production import compose
from tests.production.compose import Compose, Service
from tests.production.container import NUMBA, Container, Engine, addresses, host_name

UP_SECONDS = 900.0
FOLDER_VARIABLE = "RINGRIFT_CHECK_FOLDER"
"""The empty folder on which the check's own file system is mounted."""
LOGS = compose.PROJECT / ".ringrift" / "production-check"
"""Where the logs of a check are afterwards."""


class CheckError(InfrastructureError):
    """Something of the production is not as it should be."""


def until(what: str, limit: float, ask: Callable[[], Any]) -> Any:
    """Return the first true answer of ``ask``; raises :class:`CheckError` with ``what`` when none comes in time."""
    deadline = time.monotonic() + limit
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise CheckError(f"after {limit:g} s still not: {what}")
        time.sleep(0.5)


class Stack:
    """The containers of one production."""

    def __init__(self, engine: Engine, services: dict[str, Service], later: frozenset[str] = frozenset()) -> None:
        """``later``: services that are not started with the others."""
        self.engine, self.later = engine, later
        self.services = services
        self.containers = {
            host_name(service, number): Container(engine, service, number)
            for service in services.values()
            for number in range(1, service.replicas + 1)
        }

    def of(self, service: str) -> list[Container]:
        return [one for one in self.containers.values() if one.service.name == service]

    def one(self, service: str) -> Container:
        return self.of(service)[0]

    @property
    def long_lived(self) -> list[Container]:
        """Of those that were not left for later, or have been started since."""
        found = [one for one in self.containers.values() if one.service.restarts]
        return [one for one in found if one.starts or one.service.name not in self.later]

    # --- up and down -------------------------------------------------------------------------------

    def build(self) -> None:
        """What the Dockerfile does after its copies: compile the rules, as the user of the image or for it."""
        NUMBA.mkdir(exist_ok=True)
        _, uid = compose.image_user()
        shutil.chown(NUMBA, uid, uid)
        code = self.one("init").run(["ringrift", "rules", "compile"])
        if code != 0:
            raise CheckError(f"ringrift rules compile ended with {code}: {self.words(self.one('init'))}")
        if not any(NUMBA.iterdir()):
            raise CheckError("ringrift rules compile left nothing where RINGRIFT_NUMBA_CACHE says")

    def up(self) -> None:
        """Start every service once what it needs is as it has to be."""
        for service in self.services.values():
            for name, condition in service.needs.items():
                if condition == "service_healthy":
                    self.wait_healthy(self.of(name))
            if service.name in self.later:
                continue
            if service.restarts:
                for container in self.of(service.name):
                    container.start()
                if service.name == "api-server":  # all others ask it, and it is the longest to begin
                    self.wait_healthy(self.of(service.name))
            else:
                code = self.one(service.name).run()
                if code != 0:
                    raise CheckError(f"{service.name} ended with {code}: {self.words(self.one(service.name))}")

    def wait_healthy(self, containers: list[Container]) -> None:
        """Ask each of ``containers`` until it has once answered that it is well."""
        for one in containers:
            said = "not asked"

            def well(one: Container = one) -> bool:
                nonlocal said
                self.tend()
                said = one.healthy()
                return not said

            try:
                until(f"{one.name} is healthy", UP_SECONDS, well)
            except CheckError as error:
                raise CheckError(f"{error}: {said}; {self.words(one)}") from error

    def tend(self) -> None:
        """Start again what has died, as ``restart: unless-stopped`` does."""
        for one in self.long_lived:
            if one.starts and not one.alive:
                one.start()

    def add_dags(self, dags: Mapping[str, str]) -> None:
        folder = self.engine.folder / "dags"
        shutil.copytree(compose.PROJECT / "dags", folder, ignore=shutil.ignore_patterns("__pycache__"))
        for name, text in dags.items():
            (folder / name).write_text(text)
        for one in self.containers.values():
            if one.service.is_ours:
                one.extra[f"{compose.image_folder()}/dags"] = folder

    def down(self, services: list[str]) -> None:
        for name in services:
            for one in self.of(name):
                one.stop()

    def words(self, container: Container) -> str:
        """The end of a container's log."""
        return " | ".join(container.log.read_text(errors="replace").splitlines()[-6:])

    # --- doors -------------------------------------------------------------------------------------

    def secret(self, name: str) -> str:
        return (self.engine.secrets / name).read_text()

    @property
    def api(self) -> Api:
        return Api(f"http://{self.engine.addresses['api-server']}:8080", "admin", self.secret("admin_password"))

    @property
    def ledger(self) -> Ledger:
        place = self.engine.addresses["postgres"]
        return Ledger.open(f"postgresql+psycopg2://airflow:{self.secret('postgres_password')}@{place}/ringrift")

    @property
    def home(self) -> Home:
        return Home(self.engine.volume("home"))


@contextmanager
def stack(
    changes: dict[str, str],
    settings: str,
    dags: Mapping[str, str] = MappingProxyType({}),
    later: frozenset[str] = frozenset(),
) -> Iterator[Stack]:
    """A production with the values of .env.example and ``changes``; ``settings``: its config/settings.yaml.

    ``dags``: DAG files, by name, beside those of the project. Its files are in memory and gone afterwards,
    but for the logs.
    """
    folder = Path(os.environ[FOLDER_VARIABLE])
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(folder)], check=True)
    variables = compose.example() | {"SECRETS_FOLDER": str(folder / "secrets")} | changes
    found = Compose.read(variables)
    services = found.chosen(set(filter(None, variables["COMPOSE_PROFILES"].split(","))))
    engine = Engine(folder, found, folder / "secrets", addresses(services))
    make_secrets(engine.secrets)
    _write_names(engine)
    engine.network()
    home = Home(engine.volume("home")).ensure()
    home.settings_file.write_text(settings)
    _, uid = compose.image_user()
    for path in [home.root, *home.root.rglob("*")]:
        shutil.chown(path, uid, uid)
    made = Stack(engine, services, later)
    if dags:
        made.add_dags(dags)
    try:
        yield made
    finally:
        for one in made.containers.values():
            one.kill()
        shutil.rmtree(LOGS, ignore_errors=True)
        if (folder / "logs").exists():
            shutil.copytree(folder / "logs", LOGS)
        subprocess.run(["umount", "--lazy", str(folder)], check=False)


def _write_names(engine: Engine) -> None:
    """The files by which containers know each other and their user."""
    by_address: dict[str, list[str]] = {}
    for name, address in engine.addresses.items():
        by_address.setdefault(address, []).append(name)
    lines = ["127.0.0.1 localhost", *(f"{address} {' '.join(names)}" for address, names in by_address.items())]
    (engine.folder / "hosts").write_text("\n".join(lines) + "\n")
    name, uid = compose.image_user()
    for file, line in (("passwd", f"{name}:x:{uid}:{uid}::/tmp:/bin/sh"), ("group", f"{name}:x:{uid}:")):
        (engine.folder / file).write_text(Path("/etc", file).read_text() + line + "\n")
