"""Where the canonical net of a config is, asked of every host and folder now (R57, R58)."""

from __future__ import annotations

import time
from pathlib import Path

from ringrift_ops.errors import InfrastructureError
from ringrift_ops.home import Home
from ringrift_ops.ledger import Ledger
from ringrift_ops.settings import HOSTS, Settings, config_named
from ringrift_ops.stages.delivering import canonical_name, newest
from ringrift_ops.stages.fleet import on_all
from ringrift_ops.stages.hosting import Hosting
from ringrift_ops.stages.links import WEIGHTS_SUFFIX
from ringrift_ops.store import sha256_file

_LOOK_SECONDS = 0.5


class DistributionTimeoutError(InfrastructureError):
    """A net has not reached every host and folder in time."""


def check_model_availability(name: str, home: Home | None = None) -> dict[str, bool]:
    """Return, for every host and folder, whether the canonical net of config ``name`` is there, by its hash now.

    ``name``: a config key, or ``canonical_<config>``. A host that cannot be asked has it not (R57).
    """
    place = home or Home.find()
    return {node: why is None for node, why in _missing(_hosting(place), _config_of(name)).items()}


def wait_for_model_distribution(name: str, timeout: float | None = None, home: Home | None = None) -> dict[str, bool]:
    """Return :func:`check_model_availability` once every node has the net.

    ``timeout`` in seconds, else ``RINGRIFT_DISTRIBUTION_TIMEOUT`` (300). Raises :class:`DistributionTimeoutError` with
    the reason for each node (R57, R58).
    """
    place = home or Home.find()
    hosting, config = _hosting(place), _config_of(name)
    seconds = Settings.load(place).distribution_timeout if timeout is None else timeout
    deadline = time.monotonic() + seconds
    while True:
        missing = _missing(hosting, config)
        if not any(missing.values()):
            return dict.fromkeys(missing, True)
        if time.monotonic() >= deadline:
            told = "; ".join(f"{node}: {why}" for node, why in missing.items() if why is not None)
            raise DistributionTimeoutError(
                f"{config}: after {seconds:g} s not everywhere: {told}. "
                "`ringrift cluster sync` brings it to hosts that are back"
            )
        time.sleep(_LOOK_SECONDS)


def _hosting(home: Home) -> Hosting:
    return Hosting(home, Ledger.open(Settings.load(home).ledger_url))


def _config_of(name: str) -> str:
    return config_named(name.removeprefix("canonical_").removesuffix(WEIGHTS_SUFFIX)).key


def _missing(hosting: Hosting, config: str) -> dict[str, str | None]:
    """Return by node why it lacks the canonical net, None where it has it."""
    sha = newest(hosting.ledger, config)
    if sha is None:
        return {}
    link = canonical_name(hosting.home, config)

    def look(host: str) -> dict[str, str | None]:
        edge = hosting.edge(host)
        if edge is not None:
            edge.check_there()
            return {"sha": edge.nets().get(config)}
        found = hosting.remote(host).answer("file", within=HOSTS.health_seconds, path=link)
        return {"sha": None if found is None else str(found["sha"])}

    reports = on_all(list(hosting.inventory.hosts), look)
    nodes = {one.host: one.error or (None if one.facts["sha"] == sha else _why(one.facts["sha"])) for one in reports}
    for folder in Settings.load(hosting.home).destinations:
        here = Path(folder) / Path(link).name
        held = sha256_file(here) if here.is_file() else None
        nodes[folder] = None if held == sha else _why(held)
    return nodes


def _why(held: str | None) -> str:
    return "it has no such net" if held is None else f"it has {held[:16]}, an older one"
