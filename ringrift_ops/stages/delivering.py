"""A promoted net on hosts and in folders: brought by hash, linked, read back; late hosts catch up, never backwards."""

from __future__ import annotations

from typing import Any

from ringrift_ops.errors import InfrastructureError, RingRiftError
from ringrift_ops.home import Home
from ringrift_ops.hosts.errors import AwayHostError, DamagedTransferError, UnreachableHostError
from ringrift_ops.hosts.files import push
from ringrift_ops.hosts.remote import RemoteJobs
from ringrift_ops.ledger import Ledger
from ringrift_ops.settings import CONFIGS, HOSTS
from ringrift_ops.stages import edge_nets
from ringrift_ops.stages.hosting import Hosting
from ringrift_ops.stages.links import WEIGHTS_SUFFIX, Net
from ringrift_ops.stages.specs import HOST_DESTINATION, NODE_LINK, NODE_STORE, Delivery, Sha256
from ringrift_ops.store import Store, copy_verified, replace_symlink


class NotAFolderError(InfrastructureError):
    """A destination's place is taken by something that is no folder."""


def deliver(hosting: Hosting, net: Net, destination: str, *, force: bool = False) -> Delivery:
    """Bring a net to one destination and return what became of it; every failure is told in the delivery."""
    host = destination.removeprefix(HOST_DESTINATION)
    try:
        if host != destination:
            edge = hosting.edge(host)
            if edge is not None:
                return edge_nets.to_edge(hosting.home, hosting.ledger, edge, net, force=force)
            return _to_host(hosting, net, host, force=force)
        return _to_folder(hosting, net, destination)
    except (RingRiftError, OSError) as error:
        if isinstance(error, UnreachableHostError):
            hosting.lost(error)
        waits = isinstance(error, AwayHostError)
        return Delivery(
            destination=destination, path="", verified=False, error=str(error), state="pending" if waits else "failed"
        )


def _to_folder(hosting: Hosting, net: Net, destination: str) -> Delivery:
    """Copy the net, and give it the canonical name unless another is canonical; one promoted meanwhile comes after it.

    Without any canonical net the name is that of the last one delivered.
    """
    source, folder = Store(hosting.home).get(net.sha, WEIGHTS_SUFFIX), hosting.home.resolve(destination)
    target = folder / f"{net.config}_{net.sha[:16]}{WEIGHTS_SUFFIX}"
    if folder.exists() and not folder.is_dir():
        raise NotAFolderError(f"{folder} is a file: move it away, or name a folder in `destinations` of the settings")
    folder.mkdir(parents=True, exist_ok=True)
    copy_verified(source, target, net.sha)
    whole = Delivery(destination=destination, path=str(target), verified=True, error=None, state="verified")
    if (named := newest(hosting.ledger, net.config)) in (None, net.sha):
        replace_symlink(folder / f"canonical_{net.config}{WEIGHTS_SUFFIX}", target)
        named = newest(hosting.ledger, net.config)
        if named in (None, net.sha):
            return whole
        later = Net(net.config, named)
        record(hosting.ledger, later, _to_folder(hosting, later, destination), None, 0)
    return whole.model_copy(update={"error": f"superseded by {named}", "state": "stale"})


def _to_host(hosting: Hosting, net: Net, host: str, *, force: bool) -> Delivery:
    """Bring the net, and if it is the canonical one the name; a promotion meanwhile brings the newer one after it."""
    remote, destination = hosting.remote(host), HOST_DESTINATION + host
    source = Store(hosting.home).get(net.sha, WEIGHTS_SUFFIX)
    path, link = hosting.home.relative(source), canonical_name(hosting.home, net.config)
    push(remote, source, path, net.sha, read_only=True, force=force)
    if newest(hosting.ledger, net.config) == net.sha:
        remote.answer("link", link=link, target=path)
        _read_back(remote, link, net)
        hosting.seen(host)
    now = newest(hosting.ledger, net.config)
    if now is not None and now != net.sha:
        later = _to_host(hosting, Net(net.config, now), host, force=False)
        record(hosting.ledger, Net(net.config, now), later, None, 0)
        return Delivery(destination=destination, path=path, verified=True, error=f"superseded by {now}", state="stale")
    return Delivery(destination=destination, path=path, verified=True, error=None, state="verified")


def _read_back(remote: RemoteJobs, link: str, net: Net) -> None:
    """Make sure that the host itself reads, under the net's name, this net of this config."""
    _same(remote.name, link, net, remote.answer("show", seconds=HOSTS.digest_seconds, path=link))


def _same(node: str, place: str, net: Net, found: dict[str, Any]) -> None:
    if (found["sha256"], found.get("config")) != (net.sha, net.config):
        raise DamagedTransferError(
            node, f"{place} reads back as {found['sha256']} of {found.get('config')}, not {net.sha} of {net.config}"
        )


def to_this_node(home: Home, net: Net, *, link: bool) -> Delivery:
    """Read back a net that was fetched to this machine's store, with ``link`` under its canonical name.

    Raises MissingObjectError, DamagedObjectError, ``UnreadableNetError``, ``DamagedTransferError``.
    """
    from ringrift_ops.hosts.serve import Server

    path = Store(home).get(net.sha, WEIGHTS_SUFFIX, verify=True)
    place = canonical_name(home, net.config) if link else home.relative(path)
    if link:
        replace_symlink(home.canonical_link(net.config), path)
    _same("this node", place, net, Server(home).show(place))
    return Delivery(destination=NODE_LINK if link else NODE_STORE, path=home.relative(path), verified=True, error=None)


def canonical_name(home: Home, config: str) -> str:
    """Return where the link to a config's canonical net lies, below any home."""
    return home.relative(home.canonical_link(config))


def newest(ledger: Ledger, config: str) -> Sha256 | None:
    """Return the canonical net of a config, None when there is none."""
    canonical = ledger.canonical(config)
    return None if canonical is None else canonical.sha


def record(ledger: Ledger, net: Net, delivery: Delivery, generation: int | None, token: int) -> None:
    """Tell the ledger how a net stands at a destination. Raises ``StaleTokenError``."""
    ledger.record_delivery(
        net.sha,
        delivery.destination,
        delivery.path,
        verified=delivery.verified,
        error=delivery.error,
        state=delivery.state,
        generation=generation,
        token=token,
    )


def catch_up(hosting: Hosting, host: str) -> list[Sha256]:
    """Bring a host to the canonical net of every config, and return what it lacked; looks at its own files, by hash."""
    brought = []
    remote = hosting.remote(host)
    for config in CONFIGS:
        sha = newest(hosting.ledger, config)
        if sha is None:
            continue
        found = remote.answer("file", seconds=HOSTS.digest_seconds, path=canonical_name(hosting.home, config))
        if found is None or found["sha"] != sha:
            net = Net(config, sha)
            record(hosting.ledger, net, _to_host(hosting, net, host, force=False), None, 0)
            brought.append(sha)
    return brought
