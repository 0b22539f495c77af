"""A ledger per test, on SQLite and on a real Postgres server."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from ringrift_ops.ledger import Generation, Lease, Ledger
from ringrift_ops.stages.specs import Verdict

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Where databases lie whose durability is not the point: a busy disk makes every commit slow."""

START = datetime(2026, 1, 1, tzinfo=UTC)


def sha(name: str) -> str:
    """A readable stand-in for a sha256."""
    return name.encode().hex().ljust(64, "0")


class Workbench:
    """Steps that many tests need, on one ledger and a clock that only they move."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.now = START

    def later(self, seconds: float) -> datetime:
        self.now += timedelta(seconds=seconds)
        return self.now

    def generation(self, run: str = "run", config: str = "hex8_2p", after: float = 0.0) -> Generation:
        return self.ledger.ensure_generation(config, None, run, START + timedelta(seconds=after), "tiny", now=self.now)

    def running(self, run: str = "run", config: str = "hex8_2p") -> tuple[Generation, Lease]:
        generation = self.generation(run, config)
        lease = self.ledger.try_grant_generation(generation.id, self.now)
        assert lease is not None
        return generation, lease

    def net(self, name: str, generation: Generation, lease: Lease) -> str:
        """Record weights with everything they were made from, and return their sha."""
        common = {"size": 1, "config": generation.config, "generation": generation.id, "token": lease.token}
        for kind, thing, parents, meta in (
            ("games", f"{name}-games", [], {"games": 10, "moves": 1000}),
            ("dataset", f"{name}-data", [(sha(f"{name}-games"), "games")], {"samples": 900}),
            ("weights", name, [(sha(f"{name}-data"), "dataset")], {}),
        ):
            self.ledger.record_artifact(
                sha(thing), kind, f"store/{thing}", parents=parents, meta=meta, now=self.now, **common
            )
            self.later(1)
        return sha(name)

    def evaluation(
        self, name: str, generation: Generation, lease: Lease, previous: str | None, verdict: Verdict = Verdict.PASS
    ) -> int:
        return self.ledger.record_evaluation(
            sha(f"{name}-report"),
            config=generation.config,
            generation=generation.id,
            candidate=sha(name),
            previous=previous,
            gate_version="1",
            verdict=verdict,
            reason="all gates" if verdict is Verdict.PASS else "inconclusive",
            opponents=[{"opponent": "random", "games": 100, "wins": 97}],
            pairs=[],
            token=lease.token,
        ).id

    def promote(self, name: str, generation: Generation, lease: Lease, expected: str | None = None) -> None:
        self.net(name, generation, lease)
        self.ledger.compare_and_swap_canonical(
            generation.config,
            expected,
            sha(name),
            lease.token,
            generation=generation.id,
            reason="won",
            actor="test",
            evaluation=self.evaluation(name, generation, lease, expected),
        )


@pytest.fixture(scope="session")
def postgres_server(debian_package: Callable[[str, str], str]) -> Iterator[str]:
    """URL of a Postgres server of this test session, on a Unix socket only."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    initdb = Path(shutil.which("initdb") or (found[-1] if found else debian_package("initdb", "postgresql")))
    folder = Path(tempfile.mkdtemp(prefix="ringrift-postgres-", dir=MEMORY))
    user = "postgres" if os.geteuid() == 0 else None  # the server refuses to run as root
    if user is not None:
        shutil.chown(folder, user)

    def run(*command: str) -> None:
        subprocess.run(command, check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL)

    data = str(folder / "data")
    run(str(initdb), "-D", data, "-U", "ringrift", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C")
    options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
    control = str(initdb.with_name("pg_ctl"))
    run(control, "-D", data, "-w", "-o", options, "-l", str(folder / "log"), "start")
    yield f"postgresql://ringrift@/postgres?host={folder}"
    run(control, "-D", data, "-w", "-m", "immediate", "stop")
    shutil.rmtree(folder)


@pytest.fixture
def postgres_url(postgres_server: str) -> str:
    """URL of an empty Postgres database; one test has it at a time."""
    engine = sa.create_engine(postgres_server.replace("postgresql:", "postgresql+psycopg2:"))
    with engine.begin() as connection:
        connection.execute(sa.text("DROP SCHEMA public CASCADE"))
        connection.execute(sa.text("CREATE SCHEMA public"))
    engine.dispose()
    return postgres_server


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a migrated ledger, once on SQLite and once on Postgres."""
    if request.param == "postgres":
        found: str = request.getfixturevalue("postgres_url")
    else:
        found = f"sqlite:///{tmp_path}/ledger.db"
    Ledger.unchecked(found).migrate()
    return found


@pytest.fixture
def ledger(url: str) -> Ledger:
    return Ledger.open(url)


@pytest.fixture
def bench(ledger: Ledger) -> Workbench:
    return Workbench(ledger)


@pytest.fixture
def sqlite_bench() -> Iterator[Workbench]:
    """For tests of many steps that have nothing to do with the kind of database."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        yield Workbench(Ledger.open(f"sqlite:///{folder}/ledger.db"))
