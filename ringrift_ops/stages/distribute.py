"""Stage seven: brings the canonical net to every destination and verifies it there by its hash.

A destination is a folder of this machine; other transports come behind the same interface.
"""

from __future__ import annotations

from pathlib import Path

from ringrift_ops.errors import InfrastructureError, NoDataError
from ringrift_ops.home import Home
from ringrift_ops.stages.heartbeat import Heartbeat, Report
from ringrift_ops.stages.links import WEIGHTS_SUFFIX
from ringrift_ops.stages.recording import open_ledger
from ringrift_ops.stages.specs import Delivery, DistributeResult, DistributeSpec, Stage
from ringrift_ops.store import Store, copy_verified, replace_symlink


def run(spec: DistributeSpec, report: Report) -> DistributeResult:
    """Deliver ``spec.weights`` to each destination; one that fails is told in its delivery and holds up no other.

    Raises MissingObjectError or DamagedObjectError when the net itself is not whole in the store.
    """
    home = Home.find()
    ledger = open_ledger(home)
    source = Store(home).get(spec.weights, WEIGHTS_SUFFIX, verify=True)
    deliveries = []
    for number, destination in enumerate(spec.destinations, 1):
        delivery = _deliver(source, spec, home.resolve(destination), destination)
        ledger.record_delivery(
            spec.weights,
            destination,
            delivery.path,
            verified=delivery.verified,
            error=delivery.error,
            generation=spec.generation,
            token=spec.token,
        )
        deliveries.append(delivery)
        report(
            Heartbeat(
                stage=Stage.DISTRIBUTE,
                phase="delivering",
                done=number,
                total=len(spec.destinations),
                unit="destinations",
            )
        )
    return DistributeResult(weights=spec.weights, deliveries=deliveries)


def _deliver(source: Path, spec: DistributeSpec, folder: Path, destination: str) -> Delivery:
    target = folder / f"{spec.config}_{spec.weights[:16]}{WEIGHTS_SUFFIX}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        copy_verified(source, target, spec.weights)
        replace_symlink(folder / f"canonical_{spec.config}{WEIGHTS_SUFFIX}", target)
    except (InfrastructureError, NoDataError, OSError) as error:
        return Delivery(destination=destination, path=str(target), verified=False, error=str(error))
    return Delivery(destination=destination, path=str(target), verified=True, error=None)
