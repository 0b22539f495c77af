"""What deferred tasks wait for. Each trigger asks whether it is true now; none waits to be told.

Each pauses before its first look. Airflow 3.3.2 fails a task whose trigger fires before the scheduler has taken notice
of the deferral itself ("... finished with state success, but the task instance's state attribute is queued"), and the
operators have looked just before anyway.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from abc import abstractmethod
from collections.abc import AsyncIterator
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseEventTrigger, BaseTrigger, TriggerEvent

from ringrift_ops.stages.specs import Stage

if TYPE_CHECKING:
    from ringrift_ops.airflow.work import Work
    from ringrift_ops.ledger import StageRun
    from ringrift_ops.stages.moving import Twice

FIRST_LOOK_SECONDS = 5.0
"""More than one loop of a busy scheduler; should it take longer, the task's retry finds the same state."""
RENEW_SECONDS = 60.0
"""How often a trigger that holds a lease renews it."""


class LevelTrigger(BaseTrigger):
    """Fires once :meth:`look` answers. ``run``: the arguments of ``Work.of_run``, moments as ISO text."""

    pause_seconds = 1.0
    condition = ""
    """What the ledger calls what is waited for (``ringrift_ops.ledger.Condition``); empty: nothing it keeps."""

    def __init__(self, run: dict[str, Any], **arguments: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's own
        self.run_of = run
        self.arguments = arguments
        self._renewed = time.monotonic()

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{type(self).__module__}.{type(self).__qualname__}", {"run": self.run_of, **self.arguments}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        await asyncio.sleep(FIRST_LOOK_SECONDS)
        while True:
            answer = await asyncio.to_thread(self.look)
            if answer is not None:
                yield TriggerEvent(answer)  # type: ignore[no-untyped-call]  # Airflow's own
                return
            await asyncio.sleep(self.pause_seconds)

    @abstractmethod
    def look(self) -> dict[str, Any] | None:
        """Return the event's payload when what is waited for is true now, else None. Runs in a thread."""

    @cached_property
    def work(self) -> Work:
        """The run's generation; opened by the first look, in its thread."""
        from ringrift_ops.airflow.work import Work

        return Work.of_run(**revived(self.run_of))

    def renew(self) -> None:
        """Keep the generation's lease (``token`` among the arguments) while waiting under it."""
        if time.monotonic() - self._renewed > RENEW_SECONDS:
            self.work.renew(self.arguments["token"])
            if self.condition:
                self.work.waits_for(self.condition)
            self._renewed = time.monotonic()


class LeaseTrigger(LevelTrigger):
    """Fires when the run's generation has its config's lease."""

    pause_seconds = 2.0
    condition = "lease"

    def look(self) -> dict[str, Any] | None:
        lease = self.work.grant()
        return None if lease is None else {"token": lease.token}

    async def on_kill(self) -> None:
        """Leave the line: somebody gave the run up."""
        await asyncio.to_thread(lambda: self.work.finish([]))


class GamesTrigger(LevelTrigger):
    """Fires when there are games enough to train on."""

    condition = "games"

    def look(self) -> dict[str, Any] | None:
        self.renew()
        return self.work.enough_games(fresh=self.arguments["fresh"])


class JobTrigger(LevelTrigger):
    """Fires when a stage's job is over, or silent for too long, or no longer ours to wait for, or when a shard that
    crawls is to be begun a second time, or has been and one of the two is to be chosen.
    """

    condition = "training"

    def __init__(self, run: dict[str, Any], **arguments: Any) -> None:
        super().__init__(run, **arguments)
        self.stage, self.shard = Stage(arguments["stage"]), int(arguments["shard"])
        if self.stage is not Stage.TRAIN:
            self.condition = ""
        self._kept = time.monotonic()

    @cached_property
    def _twice(self) -> Twice[StageRun] | None:
        return self.work.twice(self.stage, self.shard, self.arguments["token"], failed=self.arguments["failed"])

    def look(self) -> dict[str, Any] | None:
        from ringrift_ops.errors import RingRiftError
        from ringrift_ops.settings import HOSTS

        if self.work.host(self.stage, self.shard) is not None:
            self.pause_seconds = HOSTS.poll_seconds
        status = self.work.look(self.stage, self.shard)
        if status.over or self.work.stalled(self.stage, status, self.shard):
            return self._told(status.state.value)
        if self._twice is not None and self._twice.due(status):
            return self._told("to be decided")
        self._keep_checkpoint()
        try:
            self.renew()
        except RingRiftError:
            return self._told("fenced")
        return None

    def _told(self, state: str) -> dict[str, Any]:
        return {"state": state, "failed": self.arguments["failed"]}

    def _keep_checkpoint(self) -> None:
        """Copy the checkpoint of a training on a host now and then; a host that is away has none to copy."""
        from ringrift_ops.hosts.errors import UnreachableHostError
        from ringrift_ops.settings import HOSTS

        if self.stage is Stage.TRAIN and time.monotonic() - self._kept > HOSTS.checkpoint_seconds:
            with contextlib.suppress(UnreachableHostError):
                self.work.keep_checkpoint(self.stage)
            self._kept = time.monotonic()

    async def on_kill(self) -> None:
        """End the job with all it started: somebody marked the task or cleared it."""
        await asyncio.to_thread(lambda: self.work.end(self.stage, self.shard))


class OutsideNetTrigger(BaseEventTrigger):
    """Tells of every net of a config that was trained outside a run and that no gauntlet has judged.

    Told again after a restart of the triggerer; the run that judges a net has a name of its own, so that is harmless.
    """

    pause_seconds = 10.0

    def __init__(self, config: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's own
        self.config = config

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{type(self).__module__}.{type(self).__qualname__}", {"config": self.config}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        told: set[str] = set()
        while True:
            for weights in await asyncio.to_thread(self.look):
                if weights not in told:
                    told.add(weights)
                    yield TriggerEvent({"config": self.config, "weights": weights})  # type: ignore[no-untyped-call]  # Airflow's own
            await asyncio.sleep(self.pause_seconds)

    def look(self) -> list[str]:
        """Return the sha256 of each such net, oldest first."""
        from ringrift_ops.ledger import Ledger

        ledger = Ledger.open()
        nets = ledger.artifacts(config=self.config, kind="weights")
        judged = {evaluation.candidate for evaluation in ledger.evaluations(self.config)}
        return [net.sha for net in reversed(nets) if net.generation is None and net.sha not in judged]


def revived(run: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``Work.of_run`` from their JSON form."""
    moments = {
        name: None if run[name] is None else datetime.fromisoformat(run[name]) for name in ("logical_date", "run_after")
    }
    return run | moments
