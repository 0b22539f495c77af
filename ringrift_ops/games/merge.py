"""One batch out of several: rows are copied as they are, so a part is verified before it is taken over."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from ringrift_ops.games.database import connect, named_errors
from ringrift_ops.games.writer import BatchMismatchError, BatchWriter

_SAME = ("format", "config", "codes_version")


def absorb(writer: BatchWriter, path: Path) -> int:
    """Take over every game of a finished batch, in one transaction, and return how many; those that are here stay.

    Raises BatchMismatchError for a batch of another config or numbering of moves, or one that shares only some games
    with this one; DatabaseWriteError (disk).
    """
    with closing(connect(path)) as other, named_errors(path, "reading it"):
        header = dict(other.execute("SELECT key, value FROM ringrift_ops_batch"))
        games: dict[str, int] = dict(other.execute("SELECT game_id, total_moves FROM games"))
    for key in _SAME:
        if header.get(key) != writer.header[key]:
            raise BatchMismatchError(
                f"{path} has {key} = {header.get(key)!r}, {writer.path.name} {writer.header[key]!r}"
            )
    fresh = games.keys() - writer.recorded
    if fresh and len(fresh) != len(games):
        raise BatchMismatchError(f"{path} and {writer.path.name} have some games in common and others not")
    if fresh:
        writer.copy(path, games)
    return len(fresh)
