"""``ringrift data validate`` and ``ringrift preflight``: before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ringrift_ops.cli import options as o
from ringrift_ops.cli.output import print_fields, print_json, print_table
from ringrift_ops.errors import ExitCode, NoDataError

if TYPE_CHECKING:
    from ringrift_ops.operations.preflight import Check
    from ringrift_ops.stages.specs import TrainSpec


class NoDatasetError(NoDataError):
    """A config has no dataset yet."""


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    group = typer.Typer(
        cls=OfConfig, help="Games and datasets of a config: `ringrift data CONFIG`.", no_args_is_help=True
    )
    group.callback()(_group)
    group.command("validate")(validate)
    group.command("list")(list_datasets)
    group.command("show")(show)
    group.command("games")(games)
    app.add_typer(group, name="data")
    app.command("preflight")(preflight)


class OfConfig(typer.core.TyperGroup):
    """The group `data`: a config in the place of a verb means `games` of it (R27)."""

    of_config = "games"

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        from ringrift_ops.settings import CONFIGS

        return super().resolve_command(ctx, [self.of_config, *args] if args and args[0] in CONFIGS else args)


def _group() -> None:
    """Games and datasets of a config: `ringrift data CONFIG`."""


def games(
    config: Annotated[str, typer.Argument(help="Config key, e.g. hex8_2p.")],
    folder: Annotated[
        Path | None, typer.Option("--folder", help="Where to look for game databases; else the home's games.")
    ] = None,
    as_json: o.AsJson = False,
) -> None:
    """Show every game database that holds games of a config, whatever its name, and its datasets."""
    from ringrift_ops.home import Home
    from ringrift_ops.ledger import Ledger
    from ringrift_ops.operations.holdings import holdings

    found = holdings(Home.find(), Ledger.open(), config, folder)
    if as_json:
        print_json(found)
        return
    for one in found.databases:
        print(f"{one.path}: {one.game_count} games, {one.passed} of them passed parity")
    for path, why in found.unreadable.items():
        print(f"{path}: not read: {why}")
    print(f"{found.games} games in {len(found.databases)} databases; {found.rows:,} rows passed parity, "
          f"{found.new_rows:,} of them no net was trained on")  # fmt: skip
    print()
    columns = ("dataset", "samples", "games", "made", "file")
    print_table(
        columns,
        [(one.sha[:12], one.samples, one.games, one.made.isoformat(timespec="seconds"), one.path)
         for one in found.datasets],
    )  # fmt: skip


def list_datasets(
    status: Annotated[
        str | None, typer.Option("--status", help="ready, missing or backed_out; all unless given.")
    ] = None,
    config: o.Config = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="The newest so many.")] = 100,
    as_json: o.AsJson = False,
) -> None:
    """List the datasets on record, newest first."""
    from ringrift_ops.home import Home
    from ringrift_ops.ledger import Ledger
    from ringrift_ops.operations.registry import dataset_status, datasets

    wanted = None if status is None else dataset_status(status)
    found = datasets(Home.find(), Ledger.open(), status=wanted, config=config, limit=limit)
    if as_json:
        print_json(found)
        return
    rows = [(x.id[:12], x.config, x.status, x.samples, x.bytes, x.created_at.isoformat(timespec="seconds")) for x in
            found.datasets]  # fmt: skip
    print_table(("dataset", "config", "status", "samples", "bytes", "made"), rows)


def show(
    dataset: Annotated[str, typer.Argument(help="A dataset's sha256 or its beginning.")], as_json: o.AsJson = False
) -> None:
    """Show a dataset: where it is, what the ledger keeps of it, its games and the nets trained on it."""
    from ringrift_ops.home import Home
    from ringrift_ops.ledger import Ledger
    from ringrift_ops.operations.registry import dataset as dataset_of

    found = dataset_of(Home.find(), Ledger.open(), dataset)
    if as_json:
        print_json(found)
    else:
        print_fields({**vars(found.dataset), "meta": found.meta, "games": found.games, "nets": found.nets})


def validate(
    what: Annotated[str, typer.Argument(help="A config key (its newest dataset), a sha256, or a file with --config.")],
    config: o.Config = None,
    as_json: o.AsJson = False,
) -> None:
    """Look through a dataset: corruption, quantity, labels, outliers, duplicates, drift; exit code 1 if unfit."""
    from ringrift_ops.operations.datasets import validate_dataset

    path, key, previous = _dataset(what, config)
    found = validate_dataset(path, key, previous)
    if as_json:
        print_json(found)
    else:
        print_fields({"dataset": path, "config": key, "valid": found.valid, **found.statistics})
        if found.issues:
            print()
            rows = [(one.check, one.message, "unfit" if one.blocking else "said", one.fix) for one in found.issues]
            print_table(("check", "issue", "weight", "what to do"), rows)
    if not found.valid:
        raise typer.Exit(ExitCode.GATE_SAID_NO)


def _dataset(what: str, config: str | None) -> tuple[Path, str, Path | None]:
    """Return the file, its config, and the dataset before it; raises :class:`NoDatasetError` and its like."""
    from ringrift_ops.home import Home
    from ringrift_ops.ledger import Ledger
    from ringrift_ops.settings import CONFIGS, config_named

    home, ledger = Home.find(), Ledger.open()
    if Path(what).exists():
        if config is None:
            raise o.OptionConflictError(f"{what} is a file: say whose with --config")
        return Path(what).absolute(), config_named(config).key, None
    if what in CONFIGS:
        known = ledger.artifacts(config=what, kind="dataset", clean=True)
        if not known:
            raise NoDatasetError(
                f"{what} has no dataset yet; `ringrift export --use-discovery --config {what}` makes one"
            )
        one = known[0]
    else:
        one = ledger.artifact_named(what)
        known = ledger.artifacts(config=one.config, kind="dataset", clean=True)
    earlier = [other for other in known if other.created_at < one.created_at]
    return home.resolve(one.path), one.config, home.resolve(earlier[0].path) if earlier else None


def preflight(
    config: Annotated[str, typer.Argument(help="Config key, e.g. hex8_2p.")],
    data: Annotated[
        Path | None, typer.Option("--data-path", "--data", help="Dataset; else the config's newest.")
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="FIELD=VALUE of the train spec; may be given several times.")
    ] = None,
    profile: o.Profile = None,
    as_json: o.AsJson = False,
) -> None:
    """Check what a training would need: configuration, dataset, resources, permissions; exits with what fails."""
    from ringrift_ops.home import Home
    from ringrift_ops.operations.preflight import preflight as checks_of
    from ringrift_ops.operations.preflight import require, training_spec
    from ringrift_ops.settings import Settings, config_named

    key = config_named(config).key
    planned = _planned(key, data, profile)
    spec = training_spec(planned.model_dump(mode="json") | _changes(changes or []))
    checks = checks_of(Home.find(), spec, Settings.load().profile(key, profile))
    _show(checks, as_json=as_json)
    if not as_json or all(one.passed for one in checks):
        require(checks)
    else:
        raise typer.Exit(ExitCode.GATE_SAID_NO)


def _planned(key: str, data: Path | None, profile: str | None) -> TrainSpec:
    from ringrift_ops.settings import Settings
    from ringrift_ops.stages.order import Order
    from ringrift_ops.store import sha256_file

    path = _dataset(key, None)[0] if data is None else o.existing(data, "--data-path")
    order = Order.outside(Settings.load(), key, profile, 0)
    sha = sha256_file(path) if path.is_file() else ""
    return order.train(dataset=sha, dataset_path=str(path), parent=None, resume_from=None, output=None)


def _changes(given: list[str]) -> dict[str, Any]:
    changed: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise o.OptionValueError(f"--set {text}: FIELD=VALUE is needed")
        try:
            changed[name] = json.loads(value)
        except ValueError:
            changed[name] = value
    return changed


def _show(checks: list[Check], *, as_json: bool) -> None:
    if as_json:
        print_json(checks)
    else:
        print_table(("check", "passed", "found", "fix"), [(x.name, x.passed, x.found, x.fix) for x in checks])
