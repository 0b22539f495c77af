"""Names that people type, turned into what they mean or into an error that lists the valid ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from ringrift_ops.errors import UsageError
from ringrift_ops.settings.tables import CONFIGS, PROFILES, ConfigRow
from ringrift_ops.stages.specs import Stage

STAGE_ALIASES: dict[str, Stage] = {
    "evaluate": Stage.GAUNTLET,
    "evaluation": Stage.GAUNTLET,
    "canonical_selfplay": Stage.SELFPLAY,
    "parity_validation": Stage.PARITY,
    "npz_export": Stage.EXPORT,
    "export_action": Stage.EXPORT,
}
"""What the runbooks call a stage besides its own name; accepted at every door."""

OPPONENTS = ("random", "heuristic", "previous")


class UnknownConfigError(UsageError):
    """A config that is not one of the 12."""


class UnknownProfileError(UsageError):
    """A profile that is not a row of the table."""


class UnknownStageError(UsageError):
    """Neither one of the seven stages nor one of their aliases."""


class UnknownOpponentError(UsageError):
    """A gauntlet opponent that does not exist."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return ``did you mean X?; valid: A, B, C`` for a message, the nearest names first."""
    names = list(valid)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    return f"{hint}valid: {', '.join(names)}"


def config_key(board: str, players: int) -> str:
    """Return the key of a config, e.g. ``hex8_2p``; raises :class:`UnknownConfigError`."""
    return config_named(f"{board}_{players}p").key


def config_named(name: str) -> ConfigRow:
    """Return the packaged row of a config; raises :class:`UnknownConfigError`."""
    if name not in CONFIGS:
        raise UnknownConfigError(f"unknown config {name!r}; {nearest(name, CONFIGS)}")
    return CONFIGS[name]


def profile_named(name: str) -> str:
    """Return ``name`` when it is a profile; raises :class:`UnknownProfileError`."""
    if name not in PROFILES:
        raise UnknownProfileError(f"unknown profile {name!r}; {nearest(name, PROFILES)}")
    return name


def stage_named(name: str) -> Stage:
    """Return the stage of that name or alias; raises :class:`UnknownStageError`."""
    if name in STAGE_ALIASES:
        return STAGE_ALIASES[name]
    stages = [stage.value for stage in Stage]
    if name not in stages:
        raise UnknownStageError(
            f"unknown stage {name!r}; {nearest(name, stages)} (aliases: {', '.join(STAGE_ALIASES)})"
        )
    return Stage(name)


def opponent_named(name: str) -> str:
    """Return ``name`` when it is a gauntlet opponent; raises :class:`UnknownOpponentError`."""
    if name not in OPPONENTS:
        raise UnknownOpponentError(f"unknown opponent {name!r}; {nearest(name, OPPONENTS)}")
    return name
