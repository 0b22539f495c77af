"""A ledger in this test's home, and the steps of a generation on it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from ringrift_ops.home import Home
from ringrift_ops.ledger import Ledger
from tests.ledger.conftest import Workbench


@pytest.fixture
def bench(home: Path) -> Workbench:
    """Steps on the ledger of this test's home, at the present moment."""
    Home(home).ensure()
    bench = Workbench(Ledger.open())
    bench.now = datetime.now(UTC)
    return bench


@pytest.fixture
def house(home: Path) -> Home:
    return Home(home).ensure()
