"""The ledger: everything the platform knows, behind one object."""

from __future__ import annotations

from ringrift_ops.ledger.artifacts import Artifacts
from ringrift_ops.ledger.audit import Audit
from ringrift_ops.ledger.breakers import Breakers
from ringrift_ops.ledger.engine import make_engine
from ringrift_ops.ledger.evaluations import Evaluations
from ringrift_ops.ledger.events import Events
from ringrift_ops.ledger.hosts import Hosts
from ringrift_ops.ledger.incidents import Incidents
from ringrift_ops.ledger.leases import Leases
from ringrift_ops.ledger.pages import Pages
from ringrift_ops.ledger.plays import Plays
from ringrift_ops.ledger.poison import Poisoned
from ringrift_ops.ledger.promotion import Promotions
from ringrift_ops.ledger.seconds import Seconds
from ringrift_ops.ledger.standing import Standings
from ringrift_ops.ledger.view import View
from ringrift_ops.ledger.waits import Waits
from ringrift_ops.settings.load import Settings


class Ledger(
    View,
    Plays,
    Seconds,
    Hosts,
    Leases,
    Artifacts,
    Evaluations,
    Promotions,
    Waits,
    Breakers,
    Audit,
    Poisoned,
    Standings,
    Incidents,
    Events,
    Pages,
):
    """One ledger. Every method is one transaction, but for those inside :meth:`one_moment`; nothing is kept open.

    Every method that takes ``now`` means an aware datetime and defaults to the present moment;
    every ``token`` is the fencing token of the generation's lease (0 outside a generation).
    """

    @classmethod
    def open(cls, url: str | None = None) -> Ledger:
        """Return the ledger at ``url``, else where the settings say (``RINGRIFT_LEDGER_URL``).

        A SQLite ledger is made or migrated when needed. Raises :class:`LedgerTooNewError`,
        :class:`LedgerTooOldError`, :class:`NotALedgerError`, :class:`LedgerUnavailableError`.
        """
        ledger = cls.unchecked(url)
        ledger.check_revision()
        return ledger

    @classmethod
    def unchecked(cls, url: str | None = None) -> Ledger:
        """Return the ledger without looking at its revision: for ``ringrift db migrate``, which does."""
        return cls(make_engine(url or Settings.load().ledger_url))
