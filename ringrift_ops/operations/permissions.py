"""Who may do what over the network: five permissions on the four roles of Airflow's auth manager (R41, R74)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ringrift_ops.errors import GateError, NoDataError, UsageError
from ringrift_ops.settings.names import nearest


class Permission(StrEnum):
    """What a request needs. Each is held by one role and by every role above it."""

    TRAINING_READ = "training:read"
    DATASET_READ = "dataset:read"
    TRAINING_START = "training:start"
    MODEL_WRITE = "model:write"
    ADMIN = "admin"


ROLES = ("viewer", "user", "op", "admin")
"""Of Airflow's SimpleAuthManager, each with all that the one before it may do."""

HOLDERS: Mapping[Permission, str] = {
    Permission.TRAINING_READ: "viewer",
    Permission.DATASET_READ: "viewer",
    Permission.TRAINING_START: "user",
    Permission.MODEL_WRITE: "op",
    Permission.ADMIN: "admin",
}
"""The least role that holds a permission."""


class UnknownUserError(NoDataError):
    """A user whom the auth manager does not know."""


class UnknownPermissionError(UsageError):
    """Not one of the five."""


class UnknownRoleError(UsageError):
    """A user's role is none of the auth manager's."""


class FixedRolesError(GateError):
    """A permission is to be granted by itself where roles hold them."""


@dataclass(frozen=True)
class Grants:
    """What a user may do. ``permissions``: all five."""

    user: str
    role: str
    permissions: dict[Permission, bool]


def holds(role: str, permission: Permission) -> bool:
    """Return whether a role holds a permission; a role of another name holds none."""
    known = role.lower()
    return known in ROLES and ROLES.index(known) >= ROLES.index(HOLDERS[permission])


def permission_named(name: str) -> Permission:
    """Return the permission of that name; raises :class:`UnknownPermissionError`."""
    if name not in set(Permission):
        raise UnknownPermissionError(f"unknown permission {name!r}; {nearest(name, Permission)}")
    return Permission(name)


def users_in(text: str) -> dict[str, str]:
    """Return {user: role} of Airflow's ``[core] simple_auth_manager_users``; raises :class:`UnknownRoleError`."""
    users = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, _, role = entry.partition(":")
        users[name] = role.partition(":")[0].lower()
        if users[name] not in ROLES:
            raise UnknownRoleError(f"user {name!r} has the role {role!r}; {nearest(role, ROLES)}")
    return users


def grants_of(users: Mapping[str, str], user: str) -> Grants:
    """Return what a user may do; raises :class:`UnknownUserError`."""
    if user not in users:
        raise UnknownUserError(f"no user {user!r}; {nearest(user, users)}")
    return Grants(user, users[user], {one: holds(users[user], one) for one in Permission})


def grant(users: Mapping[str, str], user: str, wanted: Sequence[str], where: str) -> Grants:
    """Return what a user may do when all that is wanted is among it (R74).

    Roles are fixed: for what is missing :class:`FixedRolesError` says which role holds it and ``where`` roles are set.
    Raises :class:`UnknownUserError`, :class:`UnknownPermissionError`.
    """
    asked = [permission_named(name) for name in wanted]
    found = grants_of(users, user)
    missing = [one for one in asked if not found.permissions[one]]
    if missing:
        role = max((HOLDERS[one] for one in missing), key=ROLES.index)
        raise FixedRolesError(
            f"{user} is {found.role}, which does not hold {', '.join(missing)}; permissions are held by roles, and the "
            f"role {role} holds {'it' if len(missing) == 1 else 'them'}: set {user}:{role} in {where}"
        )
    return found
