"""``ringrift cluster``: the hosts of ``config/distributed_hosts.yaml``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from ringrift_ops.cli import options as o
from ringrift_ops.cli.output import print_fields, print_json, print_table
from ringrift_ops.errors import GateError, UsageError

if TYPE_CHECKING:
    from ringrift_ops.home import Home
    from ringrift_ops.ledger import HostState
    from ringrift_ops.settings import Inventory
    from ringrift_ops.stages.fleet import HostReport
    from ringrift_ops.stages.hosting import Hosting

app = typer.Typer(
    name="cluster", help="The hosts that work may run on, from config/distributed_hosts.yaml.", no_args_is_help=True
)


class NotConfirmedError(UsageError):
    """A key is trusted only when somebody says so."""


class OtherFingerprintError(GateError):
    """The host shows another key than the one that was asked for."""


def add_to(root: typer.Typer) -> None:
    """Register the group."""
    root.add_typer(app)


def _hosts() -> list[str]:
    from ringrift_ops.home import Home
    from ringrift_ops.settings import Inventory

    return list(Inventory.load(Home.find()).hosts)


HostName = Annotated[str, typer.Argument(metavar="HOST", help="Its name in the inventory.", autocompletion=_hosts)]


def inventory() -> tuple[Home, Inventory]:
    """Return the home and its inventory; raises ``InventoryError``."""
    from ringrift_ops.home import Home
    from ringrift_ops.settings import Inventory

    home = Home.find()
    return home, Inventory.load(home)


@app.command("list")
def list_hosts(as_json: o.AsJson = False) -> None:
    """Show the hosts as the inventory has them, and how they were when last asked; asks none of them."""
    from ringrift_ops.hosts.keys import trusted_keys
    from ringrift_ops.ledger import Ledger

    home, hosts = inventory()
    keys, states = trusted_keys(home), {}
    if hosts:
        ledger = Ledger.open()
        states = {name: ledger.host_state(name) for name in hosts.hosts}
    rows = [
        {
            "host": name,
            "ssh": (host.ssh_host or None) if host.ssh_port is None else f"{host.ssh_host}:{host.ssh_port}",
            "role": host.role,
            "capabilities": " ".join(sorted(host.abilities)),
            "max_parallel_jobs": host.max_parallel_jobs,
            "memory_gb": host.memory_gb,
            "gpu": None if host.gpu is None else f"{host.gpu.name} {host.gpu.memory_gb:g} GB",
            "work_dir": host.work_dir,
            "key_trusted": None if host.is_edge else host.host_key is not None or name in keys,
            **_standing(states[name]),
        }
        for name, host in hosts.hosts.items()
    ]
    if as_json:
        print_json({"hosts": rows})
    elif not rows:
        print(f"no hosts: everything runs on this machine ({home.inventory} does not exist or is empty)")
    else:
        columns = (
            "host",
            "ssh",
            "role",
            "can",
            "jobs",
            "memory GB",
            "gpu",
            "work_dir",
            "key trusted",
            "state",
            "tended",
        )
        shown = [[row[key] for key in row if key not in ("seen_at", "tended_at", "did")] for row in rows]
        print_table(columns, shown)


def _standing(state: HostState | None) -> dict[str, object]:
    """How a host was when it was last asked, and what the last look after it did (the DAG `hosts`)."""
    from datetime import UTC, datetime

    def ago(moment: datetime) -> str:
        return f"{(datetime.now(UTC) - moment).total_seconds() / 60:.0f} min ago"

    if state is None:
        return {"state": "never asked", "tended": None, "seen_at": None, "tended_at": None, "did": None}
    done = state.tended or {}
    counts = [f"{len(done[what])} {what}" for what in ("ended", "brought", "nets", "removed") if done.get(what)]
    told = None
    if state.tended_at is not None:
        told = f"{ago(state.tended_at)}: {done.get('cause') or ', '.join(counts) or 'nothing to do'}"
    return {
        "state": "up" if state.away_since is None else f"away since {state.away_since:%Y-%m-%d %H:%M}",
        "tended": told,
        "seen_at": state.seen_at,
        "tended_at": state.tended_at,
        "did": done or None,
    }


@app.command("trust")
def trust(
    host: HostName,
    fingerprint: Annotated[
        str | None, typer.Option("--fingerprint", help="SHA256:... the key must have; then nothing is asked.")
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Trust whatever key is shown; say so only on a network you trust.")
    ] = False,
    as_json: o.AsJson = False,
) -> None:
    """Show the key of a host and store it after a yes. Nothing connects to a host before."""
    from ringrift_ops.hosts import keys
    from ringrift_ops.hosts.link import Loop, shown_key
    from ringrift_ops.stages.hosting import EdgeHostError

    home, hosts = inventory()
    row = hosts.host(host)
    if row.is_edge:
        raise EdgeHostError(f"host {host}: its role is edge, so it shows no key; its worker shows the cluster's token")
    key = Loop.get().start(shown_key(row)).result()
    if row.host_key is not None and row.host_key != key.text:
        raise OtherFingerprintError(
            f"host {host} shows {key.fingerprint}, the inventory's host_key is "
            f"{keys.HostKey(row.host_key).fingerprint}: correct {home.inventory} if the new one is right"
        )
    if fingerprint is not None and fingerprint != key.fingerprint:
        raise OtherFingerprintError(f"host {host} shows {key.fingerprint}, not {fingerprint}; nothing was stored")
    stored = keys.trusted_keys(home).get(host)
    if not as_json:
        print(f"host {host} ({row.ssh_host}) shows {key.text.split()[0]} {key.fingerprint}")
        if stored is not None and stored != key:
            print(f"trusted until now: {stored.fingerprint}")
    if fingerprint is None and not yes:
        _ask(host)
    keys.trust(home, host, key)
    if as_json:
        print_json({"host": host, "fingerprint": key.fingerprint, "key": key.text})
    else:
        print_fields({"stored in": home.host_keys})


HostNames = Annotated[
    str | None, typer.Argument(metavar="[HOST]", help="One host; all unless given.", autocompletion=_hosts)
]


def _chosen(host: str | None, *, edge: bool = False) -> tuple[Hosting, list[str]]:
    """Return the hosts of this home and the names that are meant; those of role edge by name, or with ``edge``.

    Raises ``UnknownHostError``.
    """
    from ringrift_ops.ledger import Ledger
    from ringrift_ops.stages.hosting import Hosting

    home, hosts = inventory()
    names = list(hosts.hosts) if edge else hosts.reached_by(ssh=True)
    names = names if host is None else [hosts.host(host).name]
    return Hosting(home, Ledger.open()), names


@app.command("health")
def health(host: HostNames = None, as_json: o.AsJson = False) -> None:
    """Ask every host and this machine how they are: CPU, memory, GPU, disk, jobs, clock. 4 when one is not well."""
    from ringrift_ops.stages import fleet

    hosting, names = _chosen(host, edge=True)
    reports = fleet.health(hosting, names)
    here = [fleet.here(hosting)] if host is None else []
    tended = {name: _standing(hosting.ledger.host_state(name)) for name in names}
    if as_json:
        shown = [one.model_dump(mode="json") | tended[one.host] for one in reports]
        print_json({"hosts": shown, "here": here})
    else:
        columns = (
            "host", "state", "version", "cpu", "memory free", "gpu", "disk free", "jobs", "clock", "heartbeat",
            "tended",
        )  # fmt: skip
        rows = [[*_healthy(one), tended[one.host]["tended"]] for one in reports]
        print_table(columns, [*([*_healthy(one), None] for one in here), *rows])
        _complain(reports)
    _end(reports, ill=[one for one in reports if one.error is None and not one.facts["same_version"]])


def _healthy(one: HostReport) -> list[object]:
    if one.error is not None:
        return [one.host, one.cause, *[None] * 8]
    facts = one.facts
    cards = [
        card.get("error") or f"{card['name']} {card['memory_used']:g} of {card['memory_total']:g} MiB"
        for card in facts["gpus"]
    ]
    beat = facts["heartbeat_age"]
    return [
        one.host,
        "up" if facts["same_version"] else "other version",
        facts["versions"]["code"],
        f"load {facts['load']:.1f} on {facts['cores']}",
        f"{(facts['memory_free'] or 0) / 1e9:.1f} of {(facts['memory_total'] or 0) / 1e9:.0f} GB",
        ", ".join(cards),
        f"{facts['disk_free'] / 1e9:.1f} of {facts['disk_total'] / 1e9:.0f} GB",
        len(facts["running"]),
        f"{facts['clock_offset']:+.2f} s",
        None if beat is None else f"{beat:.0f} s ago",
    ]


@app.command("sync")
def sync(host: HostNames = None, as_json: o.AsJson = False) -> None:
    """Bring back what hosts made, bring them the nets they lack, end jobs that no generation owns any more."""
    from ringrift_ops.stages import fleet

    reports = fleet.sync(*_chosen(host))
    if as_json:
        print_json({"hosts": reports})
    else:
        rows = [
            [
                one.host,
                one.cause or "done",
                *(" ".join(one.facts.get(what, [])) for what in ("brought", "nets", "ended")),
            ]
            for one in reports
        ]
        print_table(("host", "state", "brought back", "nets given", "ended"), rows)
        _complain(reports)
    _end(reports)


@app.command("bootstrap")
def bootstrap(host: HostNames = None, as_json: o.AsJson = False) -> None:
    """Make hosts ready from sshd and Python 3.11: this code as a wheel, and what the role needs. Repeatable."""
    from ringrift_ops.hosts import install
    from ringrift_ops.stages import fleet

    hosting, names = _chosen(host)
    reports = fleet.on_all(names, lambda name: install.bootstrap(hosting.remote(name), hosting.home))
    _installed(reports, as_json=as_json)


@app.command("update")
def update(
    host: HostNames = None,
    drain: Annotated[
        float | None, typer.Option("--drain", min=0.0, help="Seconds to wait for a host's running jobs; else 4 hours.")
    ] = None,
    as_json: o.AsJson = False,
) -> None:
    """Bring hosts to this code, one by one: wait for their jobs, install, check; a failed check is taken back."""
    from ringrift_ops.hosts import install
    from ringrift_ops.settings import HOSTS
    from ringrift_ops.stages import fleet

    hosting, names = _chosen(host)
    seconds = HOSTS.drain_seconds if drain is None else drain

    def step(name: str) -> dict[str, object]:
        return install.update(hosting.remote(name), hosting.home, drain_seconds=seconds)

    _installed([one for name in names for one in fleet.on_all([name], step)], as_json=as_json)


def _installed(reports: list[HostReport], *, as_json: bool) -> NoReturn:
    if as_json:
        print_json({"hosts": reports})
    else:
        rows = [
            [one.host, one.cause or ("installed" if one.facts["installed"] else "as it was"), one.facts.get("version")]
            for one in reports
        ]
        print_table(("host", "state", "version"), rows)
        _complain(reports)
    _end(reports)


def _complain(reports: list[HostReport]) -> None:
    for one in reports:
        if one.error is not None:
            print(one.error, file=sys.stderr)


def _end(reports: list[HostReport], ill: Sequence[HostReport] = ()) -> NoReturn:
    from ringrift_ops.errors import ExitCode

    bad = bool(ill) or any(one.error is not None for one in reports)
    raise typer.Exit(ExitCode.INFRASTRUCTURE if bad else ExitCode.DONE)


def _ask(host: str) -> None:
    if not sys.stdin.isatty():
        raise NotConfirmedError(
            f"the key of {host} was not stored: there is no terminal to ask on; compare it and give --fingerprint"
        )
    if input("Compared with the host's own (ssh-keygen -lf /etc/ssh/ssh_host_*.pub)? Trust it? [yes/no] ") != "yes":
        raise NotConfirmedError(f"the key of {host} was not stored")
