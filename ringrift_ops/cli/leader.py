"""``--backend p2p``: a phase done by a leader elsewhere, asked over HTTP (R63)."""

from __future__ import annotations

import json
import secrets
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from ringrift_ops.cli import options as o
from ringrift_ops.cli.output import print_fields, print_json
from ringrift_ops.errors import ExitCode, InfrastructureError

if TYPE_CHECKING:
    from ringrift_ops.hosts.exchange import Exchange

LOOK_SECONDS = 2.0
_LOGIN_TOKEN_PARTS = 3


class RunFailedError(InfrastructureError):
    """The leader's run ended without the games."""


@dataclass(frozen=True)
class Leader:
    """Where the leader is and how it knows us; ``token`` as it was given, None: ``RINGRIFT_CLUSTER_AUTH_TOKEN``."""

    url: str | None
    token: str | None

    def exchange(self) -> Exchange:
        """Return the door to it; raises ``OptionConflictError``, ``NoTokenError``."""
        import os

        from ringrift_ops.hosts.exchange import ASKER, TOKEN_VARIABLE, Exchange, checked_url, secret_from

        if self.url is None:
            raise o.OptionConflictError("--backend p2p needs --p2p-leader with the address of the leader's Edge door")
        if self.token is not None:
            print(
                f"ringrift: --p2p-auth-token can be read by everyone on this machine (ps); {TOKEN_VARIABLE} cannot",
                file=sys.stderr,
            )
        given = dict(os.environ) if self.token is None else {TOKEN_VARIABLE: self.token}
        secret = secret_from(None, given)
        if secret.count(".") == _LOGIN_TOKEN_PARTS - 1 and secret.startswith("ey"):
            raise o.OptionValueError(
                "this is a login token of Airflow's API; the Edge door wants the cluster's secret "
                "(the leader's RINGRIFT_HOME/airflow/edge_token). With a login token, start the run by "
                "POST /api/v2/dags/CONFIG/dagRuns"
            )
        return Exchange(checked_url(self.url), ASKER, secret)


@dataclass(frozen=True)
class Asked:
    """Self-play as the command line has it."""

    config: str
    profile: str | None
    games: int | None
    output: Path | None


def wanted(backend: str, url: str | None, token: str | None) -> bool:
    """Return whether ``--backend`` names a leader; raises ``OptionConflictError``."""
    if backend != "p2p" and (url is not None or token is not None):
        raise o.OptionConflictError("--p2p-leader and --p2p-auth-token go with --backend p2p only")
    return backend == "p2p"


def refuse_local(**given: object) -> None:
    """Refuse options that the leader decides itself, so that none is silently ignored."""
    for name, value in given.items():
        if value is not None:
            option = name.replace("_", "-")
            why = {
                "seed": "the leader derives it from its generation's key",
                "max_moves": "the leader takes its config's",
            }[name]
            raise o.OptionConflictError(f"--{option} does not go with --backend p2p: {why}; leave it out")


def selfplay(leader: Leader, asked: Asked, state: Path | None, *, dry_run: bool, as_json: bool) -> NoReturn:
    """Have a leader play, follow it, fetch the games where ``--output-db`` says, and end.

    With ``--state`` a second call follows the run that the file names instead of starting another; without, a run whose
    follower is interrupted goes on at the leader.
    """
    exchange = leader.exchange()
    planned = {"phase": "canonical_selfplay", "leader": exchange.url, "config": asked.config, "games": asked.games}
    if dry_run:
        exchange.hello()
        _print(planned, as_json=as_json)
        raise typer.Exit(ExitCode.DONE)
    known = _known(state, exchange.url, asked.config)
    run_id, started = known or (f"p2p__{secrets.token_hex(8)}", datetime.now(UTC).isoformat(timespec="seconds"))
    record = _Record(state, exchange.url, asked.config, run_id, started)
    record.write({"phase_status": "waiting"})  # before the leader is asked: what it begins is found again
    body = {"config": asked.config, "run_id": run_id, "profile": asked.profile, "games": asked.games}
    exchange.ask("POST", "/runs", body)
    found = _follow(exchange, record)
    if found["phase_status"] != "completed":
        raise RunFailedError(
            f"run {run_id} of {asked.config} at {exchange.url} ended {found['state']} ({found['phase_status']}): "
            f"{found['reason'] or 'see its log there'}"
        )
    files = [] if asked.output is None else _fetch(exchange, asked.config, run_id, found, asked.output)
    _print(
        planned | {"run_id": run_id, "games": found["games_completed"], "files": [str(path) for path in files]},
        as_json=as_json,
    )
    raise typer.Exit(ExitCode.DONE)


def _follow(exchange: Exchange, record: _Record) -> dict[str, Any]:
    from ringrift_ops.settings import EDGE

    said = None
    while True:
        found = exchange.ask("GET", f"/runs/{record.config}/{record.run_id}", patience=EDGE.patience_seconds)
        shown = (found["phase_status"], found["games_completed"], found["workers"])
        if shown != said:
            where = [f"{name} {one['state']} on {one['host'] or 'the leader'}" for name, one in shown[2].items()]
            games = f"{shown[1]} of {found['games_target'] or '?'} games"
            print(f"{record.run_id} {shown[0]}: {', '.join([games, *where])}", file=sys.stderr)
            record.write(found)
            said = shown
        if found["state"] in ("success", "failed"):
            return found
        time.sleep(LOOK_SECONDS)


def _fetch(exchange: Exchange, config: str, run_id: str, found: dict[str, Any], output: Path) -> list[Path]:
    batches, paths = found["batches"], []
    for one in batches:
        name = f"{output.stem}_s{one['shard']}{output.suffix}"
        path = output.absolute() if len(batches) == 1 else output.absolute().with_name(name)
        exchange.fetch(f"/runs/{config}/{run_id}/batches/{one['shard']}", path, one["sha"], lambda: None)
        paths.append(path)
    return paths


def _known(state: Path | None, url: str, config: str) -> tuple[str, str] | None:
    """Return (run id, start) of the run that a state file names, None when it is over, or another's."""
    try:
        read = json.loads(state.read_text(encoding="utf-8")) if state is not None else {}
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise o.OptionValueError(f"--state {state}: cannot be read ({error}); remove it to start anew") from error
    same = read.get("leader") == url and read.get("config") == config
    return (read["run_id"], read["started_at"]) if same and read.get("phase_status") in ("waiting", "running") else None


@dataclass(frozen=True)
class _Record:
    """The state file of one run (R65), if one was asked for; a second call finds the run by it."""

    path: Path | None
    url: str
    config: str
    run_id: str
    started_at: str

    def write(self, found: dict[str, Any]) -> None:
        from ringrift_ops.store import atomic_write

        if self.path is None:
            return
        names = ("phase_status", "games_completed", "games_target", "workers")
        view = {"current_phase": "canonical_selfplay"} | {name: found.get(name) for name in names}
        view |= {"started_at": self.started_at, "leader": self.url, "config": self.config, "run_id": self.run_id}
        atomic_write(self.path.absolute(), json.dumps(view, indent=2).encode() + b"\n")


def _print(fields: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(fields)
    else:
        print_fields(fields)
