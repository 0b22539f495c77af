"""What is mended around trainings without asking: stale leases, stalled jobs, wrong links, nets that did not arrive,
trainings that need more memory, jobs whose host is lost.

Each within its bound, on record, verified; none touches parity, gates or pointers. Called on schedule, by
``ringrift remedies``, and where a stage is placed. What a profile only observes is shown, and nothing is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from ringrift_ops.errors import RingRiftError
from ringrift_ops.hosts.jobs import JobState
from ringrift_ops.ledger import EventType, GenerationState, Slot, StageRun, generation_lease
from ringrift_ops.operations import locks
from ringrift_ops.operations.by import By
from ringrift_ops.operations.control import Controls
from ringrift_ops.operations.diagnosing import collected, evidence_of
from ringrift_ops.operations.diagnosis import diagnose, silence
from ringrift_ops.settings import CONFIGS, REMEDIES, Inventory, Mode, ProfileRow, config_named
from ringrift_ops.stages.delivering import deliver, record
from ringrift_ops.stages.links import LinkState, Net, links_of, repair_links
from ringrift_ops.stages.plan import host_destinations
from ringrift_ops.stages.specs import Stage, Verified

ACTOR = "remedy"
LEASE, STALLED, LINKS, UNDISTRIBUTED, MEMORY = "lease", "stalled_job", "links", "undistributed", "memory"
LOST = "lost_host"

MEMORY_CAUSES = frozenset({"memory", "gpu_memory", "killed_for_memory"})


@dataclass(frozen=True)
class Trouble:
    """Something that a remedy could mend. ``mend`` does it and says what was done; ``verify`` looks afterwards."""

    kind: str
    config: str
    target: str
    reason: str
    mend: Callable[[By], str]
    verify: Callable[[], list[Verified]]


@dataclass(frozen=True)
class Report:
    """What became of a trouble. ``state``: observed, mended, not mended (its verification failed), gave up, failed."""

    kind: str
    config: str
    target: str
    reason: str
    state: str
    action: str
    tries: int
    bound: int
    verified: list[Verified] = field(default_factory=list)


def troubles(controls: Controls, config: str | None = None, now: datetime | None = None) -> list[Trouble]:
    """Return what could be mended now (of one config); changes nothing. Raises ``UnknownConfigError``."""
    keys = list(CONFIGS) if config is None else [config_named(config).key]
    moment = now or datetime.now(UTC)
    found = [one for key in keys for one in (*_leases(controls, key, moment), *_stalled(controls, key))]
    found += [one for key in keys for one in _links(controls, key)]
    return [*found, *(one for key in keys for one in _undistributed(controls, key))]


def mend(
    controls: Controls, config: str | None = None, *, act: bool = True, now: datetime | None = None
) -> list[Report]:
    """Mend what the profiles let be mended, each within its bound, and return what became of it.

    ``act`` False only observes. One that fails holds up no other: its report says why.
    """
    moment = now or datetime.now(UTC)
    reports = []
    for one in troubles(controls, config, moment):
        mode = mode_of(controls.settings.profile(one.config), one.kind)
        if mode != "off":
            reports.append(_mended(controls, one, act=act and mode == "act", now=moment))
    if any(one.state != "observed" for one in reports):
        controls.show()
    return reports


def mode_of(profile: ProfileRow, kind: str) -> Mode:
    """Return what a profile lets a remedy do: off, observe or act."""
    return profile.remedy_stalled if kind == STALLED else profile.remedy_mode


def tried(controls: Controls, kind: str, target: str, now: datetime) -> int:
    """Return how often a remedy was applied to a target within the window."""
    since = now - timedelta(seconds=REMEDIES.window_seconds)
    events = controls.ledger.events(types=[EventType.REMEDY_APPLIED], since=since)
    return sum(one.payload["kind"] == kind and one.payload["target"] == target for one in events)


def bound_of(kind: str) -> int:
    """Return how often a remedy may be applied to one target within the window."""
    return int(getattr(REMEDIES, kind))


def _mended(controls: Controls, one: Trouble, *, act: bool, now: datetime) -> Report:
    tries, bound = tried(controls, one.kind, one.target, now), bound_of(one.kind)
    common = {"kind": one.kind, "config": one.config, "target": one.target, "reason": one.reason, "bound": bound}
    if not act:
        return Report(**common, state="observed", action="", tries=tries)  # type: ignore[arg-type]
    ledger = controls.ledger
    payload = {"kind": one.kind, "target": one.target, "reason": one.reason, "bound": bound}
    if tries >= bound:
        since = now - timedelta(seconds=REMEDIES.window_seconds)
        told = ledger.events(types=[EventType.REMEDY_GAVE_UP], config=one.config, since=since)
        if not any(event.payload["target"] == one.target and event.payload["kind"] == one.kind for event in told):
            ledger.record_event(EventType.REMEDY_GAVE_UP, one.config, None, payload | {"tries": tries}, now)
        return Report(**common, state="gave up", action="a person is needed", tries=tries)  # type: ignore[arg-type]
    by = By(ACTOR, one.reason, "schedule")
    by.audited(ledger, f"remedy {one.kind}", one.config, target=one.target, tries=tries + 1, bound=bound)
    try:
        action, failed = one.mend(by), False
    except RingRiftError as error:
        action, failed = f"failed: {error}", True
    payload |= {"step": None, "action": action, "tries": tries + 1}
    ledger.record_event(EventType.REMEDY_APPLIED, one.config, None, payload, now)
    lines = one.verify()
    ok = not failed and all(line.ok for line in lines)
    verified = {"kind": one.kind, "target": one.target, "step": None, "ok": ok}
    verified_lines = [line.model_dump() for line in lines]
    ledger.record_event(EventType.REMEDY_VERIFIED, one.config, None, verified | {"verified": verified_lines}, now)
    state = "failed" if failed else "mended" if ok else "not mended"
    return Report(**common, state=state, action=action, tries=tries + 1, verified=lines)  # type: ignore[arg-type]


# --- each trouble --------------------------------------------------------------------------------


def _leases(controls: Controls, config: str, now: datetime) -> Iterator[Trouble]:
    """A lease whose run is over in Airflow, and that nothing alive uses. Without Airflow nobody can know."""
    if controls.airflow is None:
        return
    lock = next(iter(locks.locks(controls.home, controls.ledger, config, now, controls.airflow)), None)
    if lock is None or lock.in_use is not None:
        return

    def release(by: By) -> str:
        freed = locks.release(controls.home, controls.ledger, by, config, airflow=controls.airflow)
        return "nobody held it any more" if freed is None else f"released the lease of {freed.holder}"

    def free() -> list[Verified]:
        lease = controls.ledger.lease(generation_lease(config))
        holder = None if lease is None else lease.holder
        return [Verified(name="the lock is free", ok=holder != lock.holder, evidence=f"held by {holder or 'nobody'}")]

    reason = f"held by {lock.holder} until {lock.until:%Y-%m-%dT%H:%M:%SZ}, whose run is over; no job of it is alive"
    yield Trouble(LEASE, config, config, reason, release, free)


def _running(controls: Controls, config: str) -> Iterator[StageRun]:
    for generation in controls.ledger.generations(config, state=GenerationState.RUNNING):
        for run in controls.ledger.stage_runs(generation.id):
            if run.state == "running" and run.job_id is not None:
                yield run


def _stalled(controls: Controls, config: str) -> Iterator[Trouble]:
    """A job that is silent for three of the steps it was seen to make in its present phase; its task starts it again.

    One that has not shown its pace yet is left to the profile's ``stall_seconds``.
    """
    hosting = controls.hosting
    for run in _running(controls, config):
        job_id, host = str(run.job_id), run.host
        evidence = collected(hosting, host, job_id)
        age, pace = evidence.heartbeat_age, evidence.beat_seconds
        if evidence.state != JobState.RUNNING.value or age is None or pace is None or age <= silence(evidence):
            continue

        def end(_by: By, host: str | None = host, job_id: str = job_id) -> str:
            return f"ended job {job_id}" if hosting.end(host, job_id) else f"job {job_id} had ended by itself"

        def ended(host: str | None = host, job_id: str = job_id) -> list[Verified]:
            state = hosting.look(host, job_id).state
            return [Verified(name="the job is over", ok=state is not JobState.RUNNING, evidence=state.value)]

        phase = (evidence.heartbeat or {}).get("phase")
        reason = f"silent for {age:.0f} s in phase {phase!r}, where two signs of life were {pace:.0f} s apart at most"
        yield Trouble(STALLED, config, job_id, reason, end, ended)


def _links(controls: Controls, config: str) -> Iterator[Trouble]:
    def repair(_by: By) -> str:
        repaired = repair_links(controls.home, controls.ledger, [config])
        return f"repaired {', '.join(one.path.name for one in repaired) or 'nothing'}"

    def right() -> list[Verified]:
        mine = links_of(controls.home, controls.ledger, [config])
        return [Verified(name=one.path.name, ok=one.state is LinkState.RIGHT, evidence=one.state.value) for one in mine]

    wrong = [one for one in links_of(controls.home, controls.ledger, [config]) if one.state is not LinkState.RIGHT]
    if wrong:
        yield Trouble(
            LINKS, config, config, "; ".join(f"{one.path.name} is {one.state.value}" for one in wrong), repair, right
        )


def _undistributed(controls: Controls, config: str) -> Iterator[Trouble]:
    """A canonical net that a destination lacks; a delivery under way belongs to its generation and is left alone."""
    ledger = controls.ledger
    canonical = ledger.canonical(config)
    if canonical is None or any(run.stage == Stage.DISTRIBUTE.value for run in _running(controls, config)):
        return
    wanted = [*controls.settings.destinations, *host_destinations(controls.home)]
    told = {row.destination: row for row in ledger.deliveries(canonical.sha)}
    missing = [one for one in wanted if one not in told or told[one].state != "verified"]
    if not missing:
        return
    net = Net(config, canonical.sha)

    def send(_by: By) -> str:
        for destination in missing:
            record(ledger, net, deliver(controls.hosting, net, destination), None, 0)
        return f"delivered {net.sha[:12]} again to {', '.join(missing)}"

    def arrived() -> list[Verified]:
        rows = {row.destination: row for row in ledger.deliveries(net.sha)}
        return [
            Verified(
                name=f"read back by hash at {one}", ok=one in rows and rows[one].state == "verified",
                evidence="not tried" if one not in rows else rows[one].error or rows[one].state,
            )
            for one in missing
        ]  # fmt: skip

    reason = f"net {net.sha[:12]} is not at {', '.join(missing)}"
    yield Trouble(UNDISTRIBUTED, config, f"{config} {net.sha[:12]}", reason, send, arrived)


# --- another host --------------------------------------------------------------------------------


def roomier(inventory: Inventory, slots: list[Slot], host: str, *, gpu: bool) -> list[Slot]:
    """Return the slots of hosts with more memory (of the GPU, when one is used) than ``host``; unknown is not more."""

    def room(name: str) -> float:
        row = inventory.hosts.get(name)
        if row is None:
            return 0.0
        return (row.gpu.memory_gb if row.gpu is not None else 0.0) if gpu else (row.memory_gb or 0.0)

    return [slot for slot in slots if room(slot.host) > room(host)]


def more_memory(controls: Controls, run: StageRun, slots: list[Slot], now: datetime | None = None) -> list[Slot]:
    """Return the hosts that a training which ran out of memory moves to, noted within its bound; empty: none (R39).

    Its batch stays: only where it is computed changes.
    """
    profile = controls.settings.profile(config_of(controls, run))
    if run.stage != Stage.TRAIN.value or run.state != "failed" or run.host is None or profile.remedy_mode != "act":
        return []
    evidence = evidence_of(controls.hosting, config_of(controls, run), run)
    causes = [one for one in diagnose(evidence) if one.cause in MEMORY_CAUSES]
    gpu = str(run.spec.get("device", "")).startswith("cuda")
    better = roomier(controls.hosting.inventory, slots, run.host, gpu=gpu) if causes else []
    if not better:
        return []
    names = ", ".join(slot.host for slot in better)

    def moved(_by: By) -> str:
        return f"goes on from its checkpoint on one of {names}"

    def there() -> list[Verified]:
        return [Verified(name="a host with more memory is there", ok=True, evidence=names)]

    trouble = Trouble(
        MEMORY, config_of(controls, run), str(run.job_id), f"out of memory on {run.host}: {causes[0].evidence[0]}",
        moved, there,
    )  # fmt: skip
    report = _mended(controls, trouble, act=True, now=now or datetime.now(UTC))
    return better if report.state == "mended" else []


def next_hosts(controls: Controls, run: StageRun, slots: list[Slot]) -> tuple[list[Slot], str | None]:
    """Return the hosts that the next attempt of a stage may go to, and the one it leaves, None when it may stay.

    It leaves a host that is lost, and one without memory enough for its training.
    """
    leave = None
    if run.host is not None and controls.hosting.is_lost(run.host):
        own = [slot for slot in slots if slot.host == run.host]
        others = [slot for slot in slots if slot.host != run.host]
        if own and others and not may_leave(controls, run, others):
            slots = own
        else:
            leave = run.host
    if better := more_memory(controls, run, slots):
        slots, leave = better, run.host
    return slots, leave


def may_leave(controls: Controls, run: StageRun, others: list[Slot], now: datetime | None = None) -> bool:
    """Return whether a stage whose host is lost goes to one of ``others``; noted, within its bound.

    Where it may not, it waits for its own host.
    """
    config = config_of(controls, run)
    if not others or controls.settings.profile(config).remedy_mode != "act":
        return False
    names = ", ".join(slot.host for slot in others)

    def moved(_by: By) -> str:
        return f"begins again, or goes on from its checkpoint, on one of {names}"

    def there() -> list[Verified]:
        return [Verified(name="another host is there", ok=True, evidence=names)]

    trouble = Trouble(LOST, config, str(run.job_id), f"its host {run.host} is lost", moved, there)
    return _mended(controls, trouble, act=True, now=now or datetime.now(UTC)).state == "mended"


def config_of(controls: Controls, run: StageRun) -> str:
    """Return the config of a stage's generation."""
    return controls.ledger.generation(run.generation).config
