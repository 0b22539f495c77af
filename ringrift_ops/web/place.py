"""The home that the door belongs to, as it is now."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from ringrift_ops.home import Home
from ringrift_ops.ledger import Ledger
from ringrift_ops.operations.status import Status, status
from ringrift_ops.settings import Settings
from ringrift_ops.stages.hosting import Hosting


@dataclass(frozen=True)
class Place:
    """Home, settings and ledger."""

    home: Home
    settings: Settings
    ledger: Ledger

    @property
    def hosting(self) -> Hosting:
        return Hosting(self.home, self.ledger)

    def look(self, config: str | None = None) -> Status:
        """Return the status now; raises ``UnknownConfigError``."""
        from ringrift_ops.web.inside import airflow_facts

        return status(self.home, self.settings, self.ledger, airflow_facts(), config)


def place() -> Place:
    """Return it; a changed ``settings.yaml`` is read anew. Raises ``SettingsFileError`` and the ledger's errors."""
    home = Home.find()
    file = home.settings_file
    changed = file.stat().st_mtime_ns if file.exists() else 0
    return _place(home, changed)


@lru_cache(maxsize=4)
def _place(home: Home, changed: int) -> Place:
    settings = Settings.load(home)
    return Place(home, settings, Ledger.open(settings.ledger_url))
