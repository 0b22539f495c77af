"""A leader's exchange over real HTTP, and nodes that work for it, without Airflow between them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from ringrift_ops.home import Home
from ringrift_ops.hosts.edge import Mirror
from ringrift_ops.hosts.exchange import Exchange
from ringrift_ops.hosts.facts import facts
from ringrift_ops.web.exchange import build

SECRET = "edge-secret-of-the-tests-0123456789-0123456789"
INVENTORY = """\
hosts:
  box:
    role: edge
    max_parallel_jobs: 2
    capabilities: [gpu]
"""


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """Serve an app on a free port of loopback; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.05)
        assert thread.is_alive(), "the server did not start"
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)


@contextmanager
def leader(home: Home, secret: str = SECRET, attend: Callable[[Mirror], object] = lambda _: None) -> Iterator[str]:
    """Serve the exchange of ``home`` as the Edge door does."""
    outer = FastAPI()
    outer.mount("/ringrift-edge", build(lambda: secret, lambda: home, attend))
    with served(outer) as url:
        yield url


def inventory(home: Home, text: str = INVENTORY) -> None:
    home.ensure()
    home.inventory.write_text(text)


def node(url: str, folder: Path, name: str = "box", secret: str = SECRET) -> tuple[Exchange, Home]:
    """A node that has said how it is."""
    exchange, place = Exchange(url, name, secret), Home(folder).ensure()
    exchange.ask("POST", f"/nodes/{name}/beat", {"facts": facts(place)})
    return exchange, place
