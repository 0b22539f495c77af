"""``ringrift rules``: compile the engine, hold both engines against recordings, check invariants at length."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ringrift_ops.cli import options as o

if TYPE_CHECKING:
    from ringrift_ops.rules.conform import Engine, FileReport


class EngineChoice(StrEnum):
    """Which engines a comparison runs."""

    PYTHON = "python"
    TYPESCRIPT = "typescript"
    BOTH = "both"


def add_to(app: typer.Typer) -> None:
    """Register the group."""
    group = typer.Typer(help="The rule engines.", no_args_is_help=True)
    group.callback()(_group)
    group.command("compile")(compile_rules)
    group.command("conform")(conform)
    group.command("check")(check)
    app.add_typer(group, name="rules")


def _group() -> None:
    """The rule engines."""


def compile_rules() -> None:
    """Compile rules, players, encoder and search for both widths of board, so that nobody waits for it later."""
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from multiprocessing import get_context

    from ringrift_ops.cli.warming import WIDTHS, warm_everything

    began = time.monotonic()
    with ProcessPoolExecutor(len(WIDTHS), mp_context=get_context("spawn")) as pool:
        running = {pool.submit(warm_everything, config): config for config in WIDTHS}
        for done in as_completed(running):
            done.result()
            seconds = time.monotonic() - began
            print(f"compiled: boards of the width of {running[done]}, {seconds:.1f} s", file=sys.stderr, flush=True)


def conform(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Recorded games, positions or evaluations: .jsonl or .jsonl.gz; else our sample."),
    ] = None,
    engine: Annotated[EngineChoice, typer.Option("--engine", help="Which engine to hold against them.")] = (
        EngineChoice.BOTH
    ),
    as_json: o.AsJson = False,
) -> int:
    """Compare every legal list, state, hash, result and evaluation with recordings of RingRift's own engine.

    Exit 0 only when something was compared and nothing differed; 1 on a difference, 3 when nothing was compared or a
    file holds no record. The TypeScript engine has no evaluator, so evaluations are compared with Python's alone.
    """
    from ringrift_ops.cli.output import print_json
    from ringrift_ops.errors import ExitCode
    from ringrift_ops.rules.recordings import SAMPLE

    reports: list[FileReport] = []
    with ExitStack() as stack:
        engines = _engines(engine, stack)
        for path in files or [SAMPLE]:
            for one in engines:
                reports.append(_compare(path, one, quiet=as_json))
    differences = sum(report.differences for report in reports)
    nothing = _compared_nothing(reports)
    if as_json:
        print_json({"ok": not differences and not nothing, "differences": differences, "nothing_compared": nothing,
                    "files": [report.as_dict() for report in reports]})  # fmt: skip
    else:
        for what in nothing:
            print(what, file=sys.stderr)
    if differences:
        return ExitCode.GATE_SAID_NO
    return ExitCode.NO_DATA if nothing else ExitCode.DONE


def _compared_nothing(reports: list[FileReport]) -> list[str]:
    """Which files hold no record, and which engines compared nothing, in words.

    An engine without an evaluator is excused where there are evaluations only and the other engine has one.
    """
    empty = dict.fromkeys(f"{report.path}: no record in it" for report in reports if not report.records)
    compared = {report.engine: 0 for report in reports}
    for report in reports:
        compared[report.engine] += report.compared
    excused = any(compared.values()) and not any(report.games or report.positions for report in reports)
    idle = [f"nothing was compared with the engine {name}" for name, count in compared.items() if not count]
    return [*empty, *([] if excused else idle)]


def _engines(choice: EngineChoice, stack: ExitStack) -> list[Engine]:
    engines: list[Engine] = []
    if choice is not EngineChoice.TYPESCRIPT:
        from ringrift_ops.players.breakdown import recorded_breakdown
        from ringrift_ops.rules.conform import PythonEngine

        engines.append(PythonEngine(recorded_breakdown))
    if choice is not EngineChoice.PYTHON:
        from ringrift_ops.parity.conform_engine import TypescriptEngine

        engines.append(stack.enter_context(TypescriptEngine()))
    return engines


def _compare(path: Path, engine: Engine, *, quiet: bool) -> FileReport:
    from ringrift_ops.rules.conform import compare_file

    began = time.monotonic()
    report = compare_file(path, engine)
    if not quiet:
        print(f"{path.name}  {report.engine}  {_in_words(report)}  {time.monotonic() - began:.1f} s", flush=True)
        if report.first is not None:
            print(report.first.in_words(), flush=True)
    return report


def _in_words(report: FileReport) -> str:
    counted = [("game", report.games), ("position", report.positions), ("evaluation", report.evaluations),
               ("step", report.steps)]  # fmt: skip
    parts = [f"{count} {name}{'' if count == 1 else 's'}" for name, count in counted if count]
    if report.not_evaluated:
        parts.append(f"{report.not_evaluated} evaluations not compared: this engine has no evaluator")
    parts.append(f"{report.differences} difference{'' if report.differences == 1 else 's'}")
    return ", ".join(parts)


def check(
    config: o.Config = None,
    board: o.Board = None,
    players: o.Players = None,
    games: Annotated[
        int | None, typer.Option("--games", min=1, help="Of each config; else 100,000 on small boards, 1,000 on large.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the first game; the next has the next.")] = 1,
    every: Annotated[int, typer.Option("--every", min=1, help="Check every so many positions; ends always.")] = 1,
    swap_rule: Annotated[bool, typer.Option("--swap-rule", help="With the pie rule (2 players).")] = False,
    as_json: o.AsJson = False,
) -> int:
    """Play random games and check the invariants of the rules in every position; all configs unless one is named."""
    from ringrift_ops.cli.output import plain, print_json
    from ringrift_ops.errors import ExitCode
    from ringrift_ops.rules.game import game
    from ringrift_ops.rules.invariants import Campaign, check_games
    from ringrift_ops.settings import CONFIGS

    named = config is not None or board is not None or players is not None
    keys = [o.config_of(config, board, players)] if named else list(CONFIGS)
    campaigns: list[Campaign] = []
    for key in keys:
        rules = game(key)
        began = time.monotonic()
        wanted = games or (100_000 if len(rules.board.cells) < 100 else 1_000)
        campaigns.append(check_games(rules, wanted, seed, every=every, swap_rule=swap_rule))
        if not as_json:
            print(_campaign_in_words(plain(campaigns[-1]), time.monotonic() - began), flush=True)
    if as_json:
        print_json(campaigns)
    bad = any(campaign.broken or campaign.unfinished for campaign in campaigns)
    return ExitCode.GATE_SAID_NO if bad else ExitCode.DONE


def _campaign_in_words(campaign: dict[str, Any], seconds: float) -> str:
    wins = "/".join(str(count) for count in campaign["wins"])
    text = (
        f"{campaign['config']}: {campaign['games']} games, {campaign['steps']} steps, wins {wins}, longest game "
        f"{campaign['longest_game']}, longest list {campaign['longest_list']}, {seconds:.0f} s"
    )
    if campaign["unfinished"]:
        text += f"; {campaign['unfinished']} games did not end"
    if campaign["broken"]:
        text += f"; BROKEN in the game of seed {campaign['game']} at move {campaign['move']}: {campaign['broken']}"
    return text
