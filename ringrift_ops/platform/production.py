"""Secrets and passwords of a production: ``python3 -m ringrift_ops.platform.production VERB``, standard library only.

secrets FOLDER              makes the files of docker-compose.yaml that FOLDER has not
passwords ADMIN FILE        gives the user admin the password in the file ADMIN, and says who has none
password NAME FILE          gives another user the password that is read from standard input
"""

from __future__ import annotations

import base64
import getpass
import json
import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path

from ringrift_ops.errors import ExitCode, RingRiftError, UsageError

USERS_VARIABLE = "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"
LEAST_CHARACTERS = 12
"""Of a password that a person chooses; Airflow's own manager has no rule."""

SECRETS: dict[str, Callable[[], str]] = {
    "postgres_password": lambda: secrets.token_hex(24),  # it becomes part of an address
    "redis_password": lambda: secrets.token_hex(24),
    "fernet_key": lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
    "jwt_secret": lambda: secrets.token_urlsafe(64),
    "secret_key": lambda: secrets.token_urlsafe(32),
    "admin_password": lambda: secrets.token_urlsafe(18),
    "edge_token": lambda: secrets.token_urlsafe(64),
}


class ProductionError(UsageError):
    """A secret, a user or a password is missing or unfit."""


def make_secrets(folder: Path) -> list[str]:
    """Make what ``folder`` has not, and return the names of what was made.

    The folder is its owner's alone. The files are readable to all who get there: a container that is given one reads
    it as its own user, which is not the owner.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    made = []
    for name, make in SECRETS.items():
        path = folder / name
        if not path.exists():
            path.write_text(make())
            path.chmod(0o644)
            made.append(name)
    return made


def set_passwords(admin: Path, file: Path) -> None:
    """Write the file of Airflow's SimpleAuthManager anew: users that are gone go. Raises :class:`ProductionError`."""
    names = [entry.partition(":")[0].strip() for entry in os.environ.get(USERS_VARIABLE, "").split(",")]
    known = _read(file)
    _write(file, {name: known[name] for name in names if name in known} | {"admin": _fit(admin.read_text().strip())})
    missing = [name for name in names if name != "admin" and name not in known]
    if missing:
        raise ProductionError(
            f"no password for {', '.join(missing)}: docker compose run --rm --no-deps init "
            f"python -m ringrift_ops.platform.production password {missing[0]} {file}"
        )


def set_password(name: str, file: Path) -> None:
    """Ask for (or read) a user's password and keep it; raises :class:`ProductionError`."""
    asked = getpass.getpass(f"password of {name}: ") if sys.stdin.isatty() else sys.stdin.readline()
    _write(file, _read(file) | {name: _fit(asked.strip())})


def _fit(password: str) -> str:
    if len(password) < LEAST_CHARACTERS:
        raise ProductionError(f"a password has {LEAST_CHARACTERS} characters or more")
    return password


def _read(file: Path) -> dict[str, str]:
    try:
        known: dict[str, str] = json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    return known


def _write(file: Path, known: dict[str, str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".new")
    temporary.write_text(json.dumps(known))
    temporary.chmod(0o600)
    temporary.replace(file)


def main(arguments: list[str]) -> int:
    """Run one verb and return its exit code."""
    try:
        match arguments:
            case ["secrets", folder]:
                made = make_secrets(Path(folder))
                print(f"{folder}: made {', '.join(made) or 'nothing, all are there'}")  # noqa: T201 - a command
            case ["passwords", admin, file]:
                set_passwords(Path(admin), Path(file))
            case ["password", name, file]:
                set_password(name, Path(file))
            case _:
                sys.stderr.write(__doc__ or "")
                return int(ExitCode.WRONG_USAGE)
    except RingRiftError as error:
        sys.stderr.write(f"{error}\n")
        return int(error.exit_code)
    return int(ExitCode.DONE)


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main(sys.argv[1:]))
