"""What a config makes, as Airflow's assets: games, dataset, candidate, canonical."""

from __future__ import annotations

from airflow.sdk import Asset, AssetWatcher

KINDS = ("games", "dataset", "candidate", "canonical")
GROUP = "ringrift"


def asset(kind: str, config: str) -> Asset:
    """Return the asset ``<kind>/<config>``; its events say in ``extra`` what was made."""
    return Asset(name=f"{kind}/{config}", uri=f"ringrift://{config}/{kind}", group=GROUP)


def watched_candidate(config: str) -> Asset:
    """Return ``candidate/<config>`` with the watcher that finds nets trained outside a run."""
    from ringrift_ops.airflow.triggers import OutsideNetTrigger

    plain = asset("candidate", config)
    watcher = AssetWatcher(name=f"outside/{config}", trigger=OutsideNetTrigger(config=config))
    return Asset(name=plain.name, uri=plain.uri, group=GROUP, watchers=[watcher])
