"""The links to the nets in force, repaired because somebody asks."""

from __future__ import annotations

from ringrift_ops.home import Home
from ringrift_ops.ledger import Ledger
from ringrift_ops.operations.by import By
from ringrift_ops.stages.links import Link, LinkState, links_of, repair_links


def repair(home: Home, ledger: Ledger, by: By) -> list[Link]:
    """Make the links of every config agree with the ledger and return those that did not; a file is never removed.

    Raises as ``stages.links.repair_links``.
    """
    wrong = [one for one in links_of(home, ledger) if one.state is not LinkState.RIGHT]
    changes = [one for one in wrong if one.target is not None or one.path.is_symlink()]
    for config in dict.fromkeys(one.config for one in changes):
        links = {one.path.name: one.state.value for one in changes if one.config == config}
        by.audited(ledger, "repair links", config, links=links)
    return repair_links(home, ledger)
