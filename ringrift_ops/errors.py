"""The five exit codes of every verb, and the error classes that carry them.

A room defines its own small error classes beside the code that raises them, each derived from
one of the four below. A message says what happened, to which object, and what to try.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What a verb's process returns (``shared/design/gates.md``, "What a verdict means")."""

    DONE = 0
    GATE_SAID_NO = 1
    WRONG_USAGE = 2
    NO_DATA = 3
    INFRASTRUCTURE = 4


class RingRiftError(Exception):
    """Base of every error a user may see; ``exit_code`` is what the process returns for it."""

    exit_code = ExitCode.INFRASTRUCTURE


class SettingsWarning(UserWarning):
    """A setting that is allowed but likely a mistake. The CLI tells each once, on stderr."""


class GateError(RingRiftError):
    """A gate refused: parity, evidence, fencing. Repeating the call changes nothing."""

    exit_code = ExitCode.GATE_SAID_NO


class UsageError(RingRiftError):
    """The request itself is wrong: unknown name, impossible value, foreign file."""

    exit_code = ExitCode.WRONG_USAGE


class NoDataError(RingRiftError):
    """There is nothing (valid) to work on, or no evidence to decide with."""

    exit_code = ExitCode.NO_DATA


class InfrastructureError(RingRiftError):
    """Disk, process, network or database failed; the same call may succeed later."""

    exit_code = ExitCode.INFRASTRUCTURE
