"""``ringrift token`` and ``permissions``: the way in over the network, and who may do what there."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ringrift_ops.cli import options as o
from ringrift_ops.cli.output import print_json, print_table

if TYPE_CHECKING:
    from ringrift_ops.operations.permissions import Grants

User = Annotated[str, typer.Argument(help="A user of the platform.")]


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    app.command("token")(token)
    group = typer.Typer(help="Who may do what over the network.", no_args_is_help=True)
    group.command("show")(show)
    group.command("grant")(grant)
    app.add_typer(group, name="permissions")


def token(
    user: Annotated[str, typer.Option("--user", help="Another user whose login is kept in this home.")] = "admin",
    as_json: o.AsJson = False,
) -> None:
    """Print a token of the running platform, for `curl -H "Authorization: Bearer $TOKEN"`; stderr says until when."""
    from ringrift_ops.home import Home
    from ringrift_ops.platform.logins import token as token_of

    found = token_of(Home.find(), user)
    if as_json:
        print_json(found)
        return
    print(found.token)
    until = found.valid_until.isoformat(timespec="seconds")
    print(f"of {found.user}, valid until {until}, for {found.url}/ringrift", file=sys.stderr)


def show(user: User, as_json: o.AsJson = False) -> None:
    """Show what a user may do over the network."""
    from ringrift_ops.home import Home
    from ringrift_ops.operations.permissions import grants_of
    from ringrift_ops.platform.logins import users

    _show(grants_of(users(Home.find()), user), as_json=as_json)


def grant(
    user: User,
    permissions: Annotated[list[str], typer.Argument(metavar="PERMISSION...", help="E.g. training:start.")],
    as_json: o.AsJson = False,
) -> None:
    """Say whether a user holds permissions; where not, which role does and where it is set (exit code 1)."""
    from ringrift_ops.home import Home
    from ringrift_ops.operations.permissions import grant as grant_of
    from ringrift_ops.platform.logins import users, where_roles_are_set

    home = Home.find()
    _show(grant_of(users(home), user, permissions, where_roles_are_set(home)), as_json=as_json)


def _show(found: Grants, *, as_json: bool) -> None:
    from ringrift_ops.operations.permissions import HOLDERS

    if as_json:
        print_json(found)
        return
    print(f"{found.user} is {found.role}")
    rows = [(name.value, held, HOLDERS[name]) for name, held in found.permissions.items()]
    print_table(("permission", "held", "by the role, and those above it"), rows)
