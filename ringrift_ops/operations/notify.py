"""Who is told, and the telling: a line in ``logs/alerts.log`` always, and every Apprise URL of the settings.

The ledger names a target by its service and a short hash: an address may hold a password.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from ringrift_ops.errors import InfrastructureError, RingRiftError
from ringrift_ops.home import Home
from ringrift_ops.ledger import Ledger, Notification
from ringrift_ops.settings import ALERTS, Settings
from ringrift_ops.store import WriteError

LOG = "alerts.log"
"""The target that needs no configuration, and the name of its file in the home's logs."""

Tell = Callable[[str], None]
"""Tells one target a text; raises what it ends with."""


class NotToldError(InfrastructureError):
    """A service did not take a notification."""


def target_of(url: str) -> str:
    """Return the name of an Apprise URL: its service and eight digits of its hash."""
    return f"{url.partition(':')[0]}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"


def targets(home: Home, settings: Settings, level: int) -> dict[str, Tell]:
    """Return {name: how it is told} of everybody who is told on that level of escalation."""
    higher = [url for least, urls in settings.notify_levels.items() if least <= level for url in urls]
    found: dict[str, Tell] = {LOG: lambda text: _write(home, text)}
    for url in [*settings.notify, *higher]:
        found[target_of(url)] = _sender(url)
    return found


def send_due(home: Home, settings: Settings, ledger: Ledger, now: datetime | None = None) -> list[Notification]:
    """Tell what has to be told, and return what was tried, as it stands now.

    One that fails keeps its error and is tried again after ``ALERTS.notify_again_seconds``; nothing is raised for it.
    """
    moment = now or datetime.now(UTC)
    known = targets(home, settings, max([0, *settings.notify_levels]))
    tried = ledger.claim_notifications(ALERTS.notify_again_seconds, ALERTS.notify_tries, moment)
    for one in tried:
        ledger.told(one.id, _error_of(known, one), moment)
    done = {one.id for one in tried}
    return [one for one in ledger.notifications() if one.id in done]


def _error_of(known: Mapping[str, Tell], one: Notification) -> str | None:
    if one.target not in known:
        return f"{one.target} is no longer in the settings"
    try:
        known[one.target](one.text)
    except RingRiftError as error:
        return str(error)
    return None


def _write(home: Home, text: str) -> None:
    """Append one line; whoever follows the file sees whole lines."""
    path = home.logs / LOG
    line = f"{datetime.now(UTC).isoformat(timespec='seconds')} {' | '.join(text.splitlines())}\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        with os.fdopen(descriptor, "wb", buffering=0) as log:
            log.write(line.encode())
    except OSError as error:
        raise WriteError(path, error) from error


def _sender(url: str) -> Tell:
    def tell(text: str) -> None:
        import apprise

        title, _, body = text.partition("\n")
        name = target_of(url)
        with _Said() as said:
            asset = apprise.AppriseAsset(app_id="RingRift", app_desc="RingRift Ops", async_mode=False)
            service = apprise.Apprise(asset=asset)
            if not service.add(_with_timeout(url)):
                raise NotToldError(f"{name}: not an address that Apprise knows; correct `notify` in the settings")
            if not service.notify(body=body or title, title=title):
                raise NotToldError(f"{name}: {said.last or 'the service did not take it'}")

    return tell


def _with_timeout(url: str) -> str:
    """Return the address with our limits of waiting, where it has none of its own."""
    if "rto=" in url:
        return url
    seconds = ALERTS.notify_timeout_seconds
    return f"{url}{'&' if '?' in url else '?'}cto={seconds:g}&rto={seconds:g}"


class _Said(logging.Handler):
    """What Apprise logs of a failure, the address left out."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.last = record.getMessage().splitlines()[0][:200] if record.getMessage() else self.last

    def __enter__(self) -> _Said:
        logging.getLogger("apprise").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("apprise").removeHandler(self)
