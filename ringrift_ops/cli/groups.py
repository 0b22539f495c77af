"""The verbs in groups, in the order in which help and reference show them."""

from __future__ import annotations

from typing import Any, Final

from typer.core import TyperGroup

GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "The platform": ("run", "up", "stop", "worker", "token", "permissions"),
    "Seven stages": ("selfplay", "parity", "export", "train", "gauntlet", "promote", "distribute", "describe"),
    "What is going on": ("status", "health", "waiting", "events", "jobs", "logs", "metrics", "curriculum", "audit"),
    "Going on": ("start", "trigger", "evaluate", "evaluation", "pipeline", "preflight"),
    "When something fails": (
        "diagnose", "evidence", "runbook", "remedies", "verify", "alerts", "incident", "recover", "reset", "lock",
        "breakers", "clear-training-state",
    ),
    "Nets, games and data": (
        "model", "data", "lineage", "rollback", "backout", "waivers", "retention", "rules", "db",
    ),
    "Hosts": ("cluster",),
}  # fmt: skip
"""Every verb stands in one of them; a test holds it."""

WHOLE_SENTENCE: Final = 1000


class GroupedCommands(TyperGroup):
    """The verbs of ``ringrift``, by group."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the verbs in the groups' order."""
        return [verb for verbs in GROUPS.values() for verb in verbs]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section of help per group."""
        widest = max(map(len, self.commands))
        for heading, verbs in GROUPS.items():
            with formatter.section(heading):
                formatter.write_dl(
                    [(verb.ljust(widest), self.commands[verb].get_short_help_str(WHOLE_SENTENCE)) for verb in verbs]
                )
