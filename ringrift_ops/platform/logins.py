"""Users of the platform on this machine, and tokens for them."""

from __future__ import annotations

import base64
import configparser
import json
from dataclasses import dataclass
from datetime import UTC, datetime

from ringrift_ops.errors import NoDataError
from ringrift_ops.home import Home
from ringrift_ops.operations.control import PlatformNotRunningError
from ringrift_ops.operations.permissions import users_in
from ringrift_ops.platform.api import Api
from ringrift_ops.platform.environment import USER, Installation, Secrets, passwords_of
from ringrift_ops.platform.keeper import read_state


class NoPasswordError(NoDataError):
    """No login of a user is kept here."""


@dataclass(frozen=True)
class Token:
    """What goes into ``Authorization: Bearer``, whose it is, for which platform, and until when it is valid."""

    token: str
    user: str
    url: str
    valid_until: datetime


def token(home: Home, user: str = USER) -> Token:
    """Return a token from the login that is kept in ``home``.

    Raises :class:`PlatformNotRunningError`, :class:`NoPasswordError`, ``ApiError``.
    """
    installation = Installation(home)
    state = read_state(installation)
    if state is None:
        raise PlatformNotRunningError(
            f"the platform of {home.root} does not run, and only it can give a token; start it with `ringrift up`"
        )
    Secrets.of(installation)
    passwords = passwords_of(installation)
    if user not in passwords:
        raise NoPasswordError(f"no password of {user!r} is kept here; kept are those of {', '.join(sorted(passwords))}")
    url = str(state["url"])
    given = Api(int(url.rsplit(":", 1)[1]), user, passwords[user]).token()
    return Token(given, user, url, _end(given))


def users(home: Home) -> dict[str, str]:
    """Return {user: role} of the platform of ``home`` as it was last started; raises ``UnknownRoleError``."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(Installation(home).config, encoding="utf-8")
    return users_in(parser.get("core", "simple_auth_manager_users", fallback=f"{USER}:admin"))


def where_roles_are_set(home: Home) -> str:
    """Return where a person gives users their roles, in words."""
    return f"`simple_auth_manager_users` under [core] in {Installation(home).own_config}, and start the platform again"


def _end(given: str) -> datetime:
    claims = given.split(".")[1]
    said = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    return datetime.fromtimestamp(float(said["exp"]), UTC)
