"""Stage seven: brings the canonical net to every destination and verifies it there by its hash.

A destination is a folder of this machine, or ``host:NAME`` of the inventory. All are served side by side; one that
hangs, is full or is away holds up no other, and a host that is away catches up when it is back.
"""

from __future__ import annotations

import queue
import threading
import time

from ringrift_ops.home import Home
from ringrift_ops.settings import Settings
from ringrift_ops.stages.delivering import deliver, record, to_this_node
from ringrift_ops.stages.heartbeat import Heartbeat, Report
from ringrift_ops.stages.hosting import Hosting
from ringrift_ops.stages.links import WEIGHTS_SUFFIX, Net
from ringrift_ops.stages.recording import open_ledger
from ringrift_ops.stages.specs import NODE_LINK, NODE_STORE, Delivery, DistributeResult, DistributeSpec, Stage
from ringrift_ops.store import Store


def run(spec: DistributeSpec, report: Report) -> DistributeResult:
    """Deliver ``spec.weights`` to each destination; one that fails is told in its delivery and holds up no other.

    What is not done after the settings' ``distribution_timeout`` seconds is told as failed. Raises MissingObjectError
    or DamagedObjectError when the net itself is not whole in the store.
    """
    home = Home.find()
    if spec.destinations in ([NODE_LINK], [NODE_STORE]):  # on a host of role edge, which has no ledger
        net, link = Net(spec.config, spec.weights), spec.destinations == [NODE_LINK]
        return DistributeResult(weights=spec.weights, deliveries=[to_this_node(home, net, link=link)])
    ledger = open_ledger(home)
    Store(home).get(spec.weights, WEIGHTS_SUFFIX, verify=True)
    hosting, net = Hosting(home, ledger), Net(spec.config, spec.weights)
    seconds = Settings.load(home).distribution_timeout
    answers: queue.Queue[tuple[int, Delivery]] = queue.Queue()

    def serve(number: int, destination: str) -> None:
        answers.put((number, deliver(hosting, net, destination, force=spec.force)))

    copying = Delivery(destination="", path="", verified=False, error=None, state="copying")
    for number, destination in enumerate(spec.destinations):
        record(ledger, net, copying.model_copy(update={"destination": destination}), spec.generation, spec.token)
        # Not a pool: its threads would keep this process from ending while one of them hangs.
        threading.Thread(target=serve, args=(number, destination), daemon=True).start()
    done: dict[int, Delivery] = {}
    deadline = time.monotonic() + seconds
    while len(done) < len(spec.destinations):
        try:
            number, delivery = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        done[number] = delivery
        record(ledger, net, delivery, spec.generation, spec.token)
        report(_beat(len(done), len(spec.destinations)))
    for number, destination in enumerate(spec.destinations):
        if number not in done:
            done[number] = Delivery(
                destination=destination, path="", verified=False, error=f"not done within {seconds} s", state="failed"
            )
            record(ledger, net, done[number], spec.generation, spec.token)
    return DistributeResult(weights=spec.weights, deliveries=[done[number] for number in sorted(done)])


def _beat(done: int, total: int) -> Heartbeat:
    return Heartbeat(stage=Stage.DISTRIBUTE, phase="delivering", done=done, total=total, unit="destinations")
