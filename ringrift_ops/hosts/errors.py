"""What can go wrong between this machine and a host: one named error per cause, each saying what to try."""

from __future__ import annotations

from ringrift_ops.errors import InfrastructureError, UsageError


class HostError(InfrastructureError):
    """Something about a host. ``host``: its name in the inventory."""

    def __init__(self, host: str, message: str) -> None:
        super().__init__(f"host {host}: {message}")
        self.host = host


class UnreachableHostError(HostError):
    """The host cannot be worked with now; the next attempt, or another host, may do."""


class AwayHostError(UnreachableHostError):
    """The host does not answer; it may come back by itself. The other causes need somebody who mends them."""


class HostRefusedError(AwayHostError):
    """Nobody listens there, the name is unknown, or there is no way to it."""


class HostHangsError(AwayHostError):
    """The host does not answer in time: half-open connection, frozen machine, or a full process table."""


class HostDroppedError(AwayHostError):
    """The connection broke."""


class WrongHostKeyError(UnreachableHostError):
    """The host shows another key than the one that is trusted: reinstalled, or not that host at all."""


class AuthenticationError(UnreachableHostError):
    """The host does not let this user in with these keys."""


class PythonMissingError(UnreachableHostError):
    """The interpreter that the inventory names does not exist on the host."""


class NotBootstrappedError(UnreachableHostError):
    """The interpreter is there, this package is not."""


class VersionMismatchError(UnreachableHostError):
    """The host has another version of this package; games and nets of two versions are not mixed."""


class HostFullError(UnreachableHostError):
    """The host's disk has no room for what is to be brought there."""


class HostAnswerError(HostError):
    """The program on the host refused or failed; its own message is in this one."""


class DamagedTransferError(HostError):
    """What arrived is not what was sent, twice in a row."""


class UntrustedHostError(UsageError):
    """No key of the host is trusted yet, so nothing connects to it."""

    def __init__(self, host: str) -> None:
        super().__init__(
            f"host {host}: its key is not trusted yet; compare and store it: ringrift cluster trust {host}"
        )
        self.host = host


class BadHostKeyFileError(UsageError):
    """The file of trusted keys cannot be read."""
