"""Which net an option means: ``canonical``, the beginning of a sha256, or a file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ringrift_ops.errors import NoDataError
from ringrift_ops.stages.specs import Sha256

CANONICAL = "canonical"
_SHA_START = re.compile(r"[0-9a-f]{6,64}")


class NoSuchNetError(NoDataError):
    """An option names a net that is not here."""


@dataclass(frozen=True)
class Net:
    """Weights by content and the file that holds them."""

    sha: Sha256
    path: Path


def canonical_net(config: str) -> Net | None:
    """Return the net in force for a config, None when none was promoted yet."""
    from ringrift_ops.home import Home
    from ringrift_ops.ledger import Ledger
    from ringrift_ops.store import Store

    found = Ledger.open().canonical(config)
    return None if found is None else Net(found.sha, Store(Home.find()).get(found.sha))


def net_named(text: str, config: str, option: str) -> Net:
    """Return the net that ``option`` names; raises :class:`NoSuchNetError`, ``UnknownArtifactError``."""
    from ringrift_ops.home import Home
    from ringrift_ops.ledger import Ledger
    from ringrift_ops.store import Store, sha256_file

    if text == CANONICAL:
        net = canonical_net(config)
        if net is None:
            raise NoSuchNetError(f"{option} canonical: no net of {config} was promoted yet; name a file or a sha256")
        return net
    path = Path(text)
    if path.is_file():
        return Net(sha256_file(path), path.absolute())
    if _SHA_START.fullmatch(text):
        sha = Ledger.open().artifact_named(text).sha
        return Net(sha, Store(Home.find()).get(sha))
    raise NoSuchNetError(f"{option} {text}: no such file, and not the beginning of a sha256; or say canonical")


def net_in_store(text: str, config: str, option: str) -> Net:
    """As :func:`net_named`; a file from elsewhere is checked, put into the store and on record first.

    Raises the errors of strict loading too.
    """
    from ringrift_ops.home import Home
    from ringrift_ops.store import Store

    net, home = net_named(text, config, option), Home.find()
    if not Store(home).holds(net.sha):
        from ringrift_ops.network.weights import load_network
        from ringrift_ops.stages.recording import record_net

        record_net(home, load_network(net.path, config), net.path)
    return Net(net.sha, Store(home).get(net.sha))
