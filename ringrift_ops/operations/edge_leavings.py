"""What hosts of role edge have left in ``RINGRIFT_HOME/edge``: requests, logs, files that nobody took in."""

from __future__ import annotations

from pathlib import Path

from ringrift_ops.home import Home
from ringrift_ops.hosts.edge import Mirror
from ringrift_ops.operations.removal import Removal, Tally, size_of
from ringrift_ops.settings import RETENTION

KIND = "edge"
_DAY = 86_400.0


def removals(home: Home, running: set[str], now: float, tally: Tally) -> None:
    """Add to ``tally`` what may go; ``running``: ``<config>-g<generation>`` of those under way.

    A file that a result named is moved away when the result is taken in, so what still lies here was refused, broke
    off, or is the checkpoint of another attempt.
    """
    for folder in sorted(home.edge.iterdir()) if home.edge.is_dir() else []:
        mirror = Mirror(home, folder.name)
        _jobs(mirror, running, now, tally)
        _old(folder / "_refused", RETENTION.job_days, "refused", now, tally)
        _files(mirror, running, now, tally)


def _generation(job_id: str) -> str:
    return "-".join(job_id.split("-")[:2])


def _jobs(mirror: Mirror, running: set[str], now: float, tally: Tally) -> None:
    for job_id in mirror.job_ids():
        folder = mirror.job(job_id)
        age = now - max(path.stat().st_mtime for path in folder.iterdir())
        if age < RETENTION.job_days * _DAY:
            tally.keep(KIND, f"jobs younger than {RETENTION.job_days:g} days")
        elif _generation(job_id) in running or not mirror.over(job_id):
            tally.keep(KIND, "of a generation under way, or not over")
        else:
            why = f"ended more than {RETENTION.job_days:g} days ago"
            tally.removals.append(Removal(KIND, folder, size_of(folder), why))


def _files(mirror: Mirror, running: set[str], now: float, tally: Tally) -> None:
    sent = (mirror.sent(job_id) for job_id in mirror.job_ids() if _generation(job_id) in running)
    waiting = {sha for files in sent for sha in files}
    folder = mirror.root / "files"
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if now - path.stat().st_mtime < RETENTION.sent_days * _DAY:
            tally.keep(KIND, f"files younger than {RETENTION.sent_days:g} days")
        elif path.name in waiting:
            tally.keep(KIND, "files of results that are not taken in yet")
        else:
            why = f"sent more than {RETENTION.sent_days:g} days ago, and no result names it"
            tally.removals.append(Removal(KIND, path, path.stat().st_size, why))


def _old(folder: Path, days: float, what: str, now: float, tally: Tally) -> None:
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if now - path.stat().st_mtime >= days * _DAY:
            tally.removals.append(Removal(KIND, path, size_of(path), f"{what} more than {days:g} days ago"))
        else:
            tally.keep(KIND, f"{what} less than {days:g} days ago")
