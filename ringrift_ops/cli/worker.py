"""``ringrift worker``: this machine as a host of role edge, and the original orchestrator's options (R71, R78)."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Annotated

import typer

from ringrift_ops.cli import options as o
from ringrift_ops.cli.output import print_fields, print_json
from ringrift_ops.errors import UsageError

UDP_PORT = 8770


class ForeignOptionError(UsageError):
    """An option of the original's P2P orchestrator that asks for something an Edge worker does not do."""


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command("worker")(worker)


def worker(
    leader: Annotated[
        str | None, typer.Option("--leader", "--p2p-leader", help="Address of the leader's Edge door.")
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", help="File with the cluster's secret; else RINGRIFT_CLUSTER_AUTH_TOKEN."),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="This host's name in the leader's inventory; else its host name.")
    ] = None,
    queues: Annotated[
        str | None, typer.Option("--queues", help="Airflow queues to serve besides its own, by comma.")
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            "--concurrency",
            min=1,
            help="Jobs at a time, else the inventory's max_parallel_jobs; a net may come besides.",
        ),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only make sure that it could begin.")] = False,
    host: Annotated[str | None, typer.Option("--host", help="Refused: a worker listens nowhere.")] = None,
    port: Annotated[int | None, typer.Option("--port", help="Refused: a worker listens nowhere.")] = None,
    require_auth: Annotated[
        bool | None, typer.Option("--require-auth/--no-require-auth", help="Always so; --no-require-auth is refused.")
    ] = None,
    tailscale_only: Annotated[
        bool, typer.Option("--tailscale-only", help="Accepted when the leader's address is of that network.")
    ] = False,
    discover: Annotated[bool, typer.Option("--discover", help="Refused: name the leader.")] = False,
    as_json: o.AsJson = False,
) -> None:
    """Work for a leader that cannot reach this machine: fetch jobs over HTTP, run them here, bring back what they made.

    Checks first that the leader is there, that clocks, token and versions agree. Ends with Ctrl-C.
    """
    from ringrift_ops.home import Home
    from ringrift_ops.hosts.exchange import Exchange, checked_url, secret_from
    from ringrift_ops.operations.nodes import check_leader
    from ringrift_ops.platform.worker import Worker

    refuse_foreign(host, port, require_auth, discover=discover)
    if leader is None:
        raise o.OptionConflictError("which leader? Give --leader with the address of its Edge door")
    url = checked_url(leader)
    if tailscale_only:
        require_tailscale(url)
    exchange = Exchange(url, name or socket.gethostname(), secret_from(token_file))
    served = [exchange.node, *(word.strip() for word in (queues or "").split(",") if word.strip())]
    found = check_leader(exchange, served)
    told = {"leader": url, "node": exchange.node, "queues": ",".join(dict.fromkeys(served)), **found}
    if as_json:
        print_json(told)
    else:
        print_fields(told)
    if check:
        return
    sys.stdout.flush()
    jobs = (concurrency or int(found["max_parallel_jobs"])) + 1  # a net need not wait for an hour of games
    Worker(Home.find(), exchange, tuple(dict.fromkeys(served)), jobs, lambda line: print(line, flush=True)).keep()


def refuse_foreign(host: str | None, port: int | None, require_auth: bool | None, *, discover: bool) -> None:
    """Refuse what the original's orchestrator did and an Edge worker does not, with what to use instead (R78)."""
    if host is not None:
        raise ForeignOptionError(
            f"--host {host}: an Edge worker listens on no address, it only calls its leader. The leader's own address "
            "is RINGRIFT_BIND of its compose file, or the TLS proxy in front of `make up`; give --leader here"
        )
    if port is not None:
        udp = f" ({UDP_PORT} was the original's)" if port == UDP_PORT else ""
        raise ForeignOptionError(
            f"--port {port}{udp}: an Edge worker listens on no port. The leader's door is RINGRIFT_EDGE_PORT there; "
            "write it into --leader http://HOST:PORT"
        )
    if require_auth is False:
        raise ForeignOptionError(
            "--no-require-auth: every request to a leader carries a token, always; give --token-file"
        )
    if discover:
        raise ForeignOptionError(
            "--discover: nothing is broadcast or searched over UDP, because whoever answers first would be believed; "
            "give --leader"
        )


def require_tailscale(url: str) -> None:
    """Make sure that every address of the leader belongs to a Tailscale network; raises :class:`ForeignOptionError`."""
    from ipaddress import ip_address, ip_network
    from urllib.parse import urlsplit

    networks = (ip_network("100.64.0.0/10"), ip_network("fd7a:115c:a1e0::/48"))
    name = urlsplit(url).hostname or ""
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(name, None)}
    except OSError as error:
        raise ForeignOptionError(f"--tailscale-only: {name} has no address ({error}); is tailscale up?") from error
    outside = sorted(one for one in found if not any(ip_address(one) in network for network in networks))
    if outside:
        raise ForeignOptionError(
            f"--tailscale-only: {name} is {', '.join(outside)}, not of Tailscale's 100.64.0.0/10 or "
            "fd7a:115c:a1e0::/48; give the leader's name or address in the tailnet, and bind its door to that address"
        )
