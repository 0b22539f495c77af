"""Airflow's connections to the hosts: one row per host of the inventory, for the UI and for users' own operators.

Made anew whenever the platform starts. Each pins the host's key and names the file of our own; no key is in a row. Our
own tasks do not use them: they speak the job protocol over ``hosts.link``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ringrift_ops.home import Home
from ringrift_ops.hosts.errors import UntrustedHostError
from ringrift_ops.hosts.keys import trusted_key
from ringrift_ops.settings import HOSTS, Host, Inventory

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

PREFIX = "ringrift_"
_MADE = "host of config/distributed_hosts.yaml; made anew at every start of the platform"


def connection_id(host: str) -> str:
    """Return the id of a host's connection."""
    return PREFIX + host


@dataclass(frozen=True)
class Row:
    """A connection of type ``ssh``. ``extra``: JSON text."""

    conn_id: str
    host: str
    port: int | None
    login: str | None
    extra: str


def rows(home: Home) -> list[Row]:
    """Return the connections of the inventory; a host whose key is not trusted has none, as nothing connects to it."""
    found = []
    for host in Inventory.load(home).hosts.values():
        try:
            key = trusted_key(home, host)
        except UntrustedHostError:
            continue
        found.append(_row(host, key.text))
    return found


def _row(host: Host, key: str) -> Row:
    """Aliases of ``~/.ssh/config`` are followed here: the provider's hook takes a connection's host as an address."""
    config = _ssh_config(host.ssh_host)
    files = config.get("identityfile")
    key_file = host.key_file or (files[0] if isinstance(files, list) and files else None)
    extra: dict[str, object] = {"host_key": key, "conn_timeout": int(HOSTS.connect_seconds)}
    if key_file is not None:
        extra["key_file"] = str(Path(str(key_file)).expanduser())
    port = host.ssh_port or config.get("port")
    return Row(
        conn_id=connection_id(host.name),
        host=str(config.get("hostname", host.ssh_host)),
        port=None if port is None else int(str(port)),
        login=host.ssh_user or (str(config["user"]) if "user" in config else None),
        extra=json.dumps(extra),
    )


def _ssh_config(name: str) -> dict[str, object]:
    path = Path("~/.ssh/config").expanduser()
    if not path.is_file():
        return {}
    import paramiko

    return dict(paramiko.SSHConfig.from_path(str(path)).lookup(name))


def make(home: Home, session: Session) -> None:
    """Make Airflow's rows those of the inventory; connections of others are left alone."""
    from airflow.models.connection import Connection
    from sqlalchemy import delete, select

    wanted = {row.conn_id: row for row in rows(home)}
    gone = (Connection.description == _MADE) & Connection.conn_id.not_in(wanted)
    session.execute(delete(Connection).where(gone))
    for row in wanted.values():
        found = session.scalar(select(Connection).where(Connection.conn_id == row.conn_id))
        if found is None:
            found = Connection(conn_id=row.conn_id, conn_type="ssh", description=_MADE)
            session.add(found)
        elif found.description != _MADE:
            continue  # somebody made it their own
        found.host, found.port, found.login = row.host, row.port, row.login
        found.set_extra(row.extra)
