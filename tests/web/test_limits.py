"""What the HTTP door counts and knows without Airflow: requests per user, and which role holds what."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ringrift_ops.ledger import Event
from ringrift_ops.operations.logs import line_of
from ringrift_ops.operations.permissions import (
    HOLDERS,
    ROLES,
    FixedRolesError,
    Permission,
    UnknownPermissionError,
    UnknownRoleError,
    UnknownUserError,
    grant,
    grants_of,
    holds,
    users_in,
)
from ringrift_ops.web.limits import Rates

USERS = {"vera": "viewer", "uma": "user"}


def test_a_minute_of_requests_is_free_at_once_and_then_they_come_as_fast_as_allowed() -> None:
    now = 0.0
    rates = Rates(lambda: now)
    assert [rates.wait("vera", 60) for _ in range(60)] == [0.0] * 60
    assert rates.wait("vera", 60) == pytest.approx(1.0)
    assert rates.wait("uma", 60) == 0.0
    now = 0.5
    assert rates.wait("vera", 60) == pytest.approx(0.5)
    now = 1.0
    assert rates.wait("vera", 60) == 0.0
    now = 3600.0
    assert [rates.wait("vera", 60) for _ in range(61)].count(0.0) == 60


def test_R41_each_role_holds_what_the_ones_below_it_hold() -> None:
    for permission, holder in HOLDERS.items():
        assert [holds(role, permission) for role in ROLES] == [
            ROLES.index(role) >= ROLES.index(holder) for role in ROLES
        ]
        assert holds(holder.upper(), permission)
        assert not any(holds(role, permission) for role in ("", "None", "superadmin", "Public"))


def test_R74_users_are_read_from_airflows_option_and_a_grant_never_gives() -> None:
    assert users_in("admin:admin, uma:USER ,otto:op:red|blue") == {"admin": "admin", "uma": "user", "otto": "op"}
    with pytest.raises(UnknownRoleError, match="did you mean viewer"):
        users_in("vera:viwer")
    assert grant(USERS, "uma", ["training:start"], "here").permissions[Permission.TRAINING_START]
    with pytest.raises(FixedRolesError, match="the role admin holds them: set uma:admin in here"):
        grant(USERS, "uma", ["model:write", "admin"], "here")
    with pytest.raises(UnknownPermissionError, match="did you mean training:start"):
        grant(USERS, "uma", ["training:strat"], "here")
    with pytest.raises(UnknownUserError):
        grants_of(USERS, "eve")


def test_a_hostile_reason_is_one_line_of_a_log() -> None:
    hostile = "a\r\nb\u2028c\x0bd\x1b[2Je\x00\u202ef"
    event = Event(1, "GENERATION_FINISHED", "hex8_2p", 1, {"outcome": "ERROR", "reason": hostile}, datetime.now(UTC))
    line = line_of(event)
    assert line.isprintable()
    assert "reason=a | b | c | d\\x1b[2Je\\x00\\u202ef #1" in line
