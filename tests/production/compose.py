"""What docker-compose.yaml, the environment file and the Dockerfile say, read as Compose and Docker read them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).resolve().parents[2]
FILE = PROJECT / "docker-compose.yaml"
EXAMPLE = PROJECT / ".env.example"
DOCKERFILE = PROJECT / "Dockerfile"
OURS = "ringrift-ops"
"""The image that is made here."""

_VARIABLE = re.compile(r"\$(?:(?P<escaped>\$)|\{(?P<name>[A-Z_]+)(?::-(?P<default>[^}]*))?\})")


class ComposeError(Exception):
    """The file says something that this reader (or Compose) does not know."""


def example() -> dict[str, str]:
    """The variables of .env.example."""
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if re.match(r"[A-Z]", line))  # type: ignore[misc]  # two parts


def named() -> set[str]:
    """The variables that the compose file takes from the environment file."""
    found = _VARIABLE.finditer(FILE.read_text(encoding="utf-8"))
    return {one["name"] for one in found if one["name"]}


def interpolated(value: Any, variables: Mapping[str, str]) -> Any:
    """``value`` with ``${NAME:-default}`` filled in and ``$$`` as a dollar; an empty variable counts as none."""
    if isinstance(value, dict):
        return {key: interpolated(one, variables) for key, one in value.items()}
    if isinstance(value, list):
        return [interpolated(one, variables) for one in value]
    if not isinstance(value, str):
        return value
    return _VARIABLE.sub(
        lambda one: "$" if one["escaped"] else variables.get(one["name"]) or one["default"] or "", value
    )


@dataclass(frozen=True)
class Health:
    """A health check. ``command``: an argument list, run in the container. Times in seconds."""

    command: tuple[str, ...]
    interval: float
    timeout: float

    @classmethod
    def of(cls, check: Mapping[str, Any]) -> Health:
        how, *rest = check["test"]
        if how not in ("CMD", "CMD-SHELL"):
            raise ComposeError(f"health check {how}")
        command = tuple(rest) if how == "CMD" else ("/bin/sh", "-c", rest[0])
        return cls(command, seconds(check["interval"]), seconds(check["timeout"]) if "timeout" in check else 30.0)


@dataclass(frozen=True)
class Service:
    """One service as the file says it, anchors merged and variables filled in."""

    name: str
    raw: Mapping[str, Any]

    @property
    def image(self) -> str:
        """The image without its tag."""
        return str(self.raw["image"]).partition(":")[0]

    @property
    def is_ours(self) -> bool:
        return self.image == OURS

    @property
    def command(self) -> tuple[str, ...]:
        given = self.raw.get("command", [])
        return tuple(shlex.split(given)) if isinstance(given, str) else tuple(given)

    @property
    def environment(self) -> dict[str, str]:
        return {name: str(value) for name, value in self.raw.get("environment", {}).items()}

    @property
    def replicas(self) -> int:
        return int(self.raw.get("deploy", {}).get("replicas", 1))

    @property
    def profiles(self) -> set[str]:
        return set(self.raw.get("profiles", []))

    @property
    def health(self) -> Health | None:
        check = self.raw.get("healthcheck")
        return None if check is None else Health.of(check)

    @property
    def restarts(self) -> bool:
        return self.raw.get("restart") == "unless-stopped"

    @property
    def user(self) -> str | None:
        return self.raw.get("user")

    @property
    def is_confined(self) -> bool:
        return self.raw.get("cap_drop") == ["ALL"]

    @property
    def volumes(self) -> dict[str, str]:
        """{volume: place in the container}."""
        return dict(one.split(":")[:2] for one in self.raw.get("volumes", []))  # type: ignore[misc]  # two parts

    @property
    def secrets(self) -> list[str]:
        return list(self.raw.get("secrets", []))

    @property
    def configs(self) -> dict[str, str]:
        """{place in the container: name}."""
        return {one["target"]: one["source"] for one in self.raw.get("configs", [])}

    @property
    def needs(self) -> dict[str, str]:
        """{service: the condition that it has to meet first}."""
        return {name: one["condition"] for name, one in self.raw.get("depends_on", {}).items()}


@dataclass(frozen=True)
class Compose:
    """The whole file."""

    raw: Mapping[str, Any]

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> Compose:
        """The file, interpolated with the variables of an environment file."""
        return cls(interpolated(yaml.safe_load(FILE.read_text(encoding="utf-8")), variables))

    @property
    def services(self) -> dict[str, Service]:
        return {name: Service(name, raw) for name, raw in self.raw["services"].items()}

    def chosen(self, profiles: set[str]) -> dict[str, Service]:
        """The services without a profile, and those with one of ``profiles``, in an order in which they can start."""
        found = {name: one for name, one in self.services.items() if not one.profiles or one.profiles & profiles}
        order: dict[str, Service] = {}
        while len(order) < len(found):
            ready = [name for name, one in found.items() if name not in order and set(one.needs) <= set(order)]
            if not ready:
                raise ComposeError(f"a service waits for one that is not there: {sorted(set(found) - set(order))}")
            order |= {name: found[name] for name in ready}
        return order

    def config(self, name: str) -> str:
        return str(self.raw["configs"][name]["content"])

    def secret(self, name: str) -> Path:
        return PROJECT / str(self.raw["secrets"][name]["file"])

    def environment(self, service: Service) -> dict[str, str]:
        """What the processes of a service see: the image's variables, then the service's own."""
        return (image_environment() if service.is_ours else {}) | service.environment


def image_environment() -> dict[str, str]:
    """The ENV of the Dockerfile."""
    words = [word for line in _instructions("ENV") for word in shlex.split(line)]
    return dict(word.split("=", 1) for word in words)  # type: ignore[misc]  # two parts


def image_folder() -> str:
    return _instructions("WORKDIR")[-1]


def image_copies() -> list[str]:
    """What the Dockerfile copies from the project into WORKDIR."""
    return [name for line in _instructions("COPY") for name in line.split()[:-1]]


def image_entrypoint() -> list[str]:
    found: list[str] = yaml.safe_load(_instructions("ENTRYPOINT")[-1])
    return found


def image_user() -> tuple[str, int]:
    """The user that the image runs as: name and number."""
    name = _instructions("USER")[-1]
    made = re.search(rf"useradd --uid (\d+) .*{name}", DOCKERFILE.read_text(encoding="utf-8"))
    if made is None:
        raise ComposeError(f"the Dockerfile makes no user {name}")
    return name, int(made[1])


def _instructions(verb: str) -> list[str]:
    text = DOCKERFILE.read_text(encoding="utf-8").replace("\\\n", " ")
    return [line.partition(" ")[2].strip() for line in text.splitlines() if line.startswith(verb + " ")]


def seconds(text: str) -> float:
    """``90s``, ``2m`` or ``1h`` in seconds."""
    return float(text[:-1]) * {"s": 1, "m": 60, "h": 3600}[text[-1]]
