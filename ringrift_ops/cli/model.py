"""``ringrift model``: nets, the names they go by, and their form for other tools (R55)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ringrift_ops.cli import options as o
from ringrift_ops.cli.control import Reason, asker
from ringrift_ops.cli.output import print_fields, print_json, print_table
from ringrift_ops.errors import ExitCode, InfrastructureError, NoDataError, UsageError

_PTH = "pth"


class LinksDisagreeError(InfrastructureError):
    """A link in ``models/`` does not lead to the net in force."""


class NoNetError(NoDataError):
    """A config without a canonical net."""


class NotWeightsError(UsageError):
    """A file that is not safetensors."""


class UnknownFormatError(UsageError):
    """``--to`` names a format that is not written."""


def add_to(app: typer.Typer) -> None:
    """Register the group."""
    group = typer.Typer(help="Nets, their names and their metadata.", no_args_is_help=True)
    group.command("show")(show)
    group.command("links")(links)
    group.command("convert")(convert)
    group.command("availability")(availability)
    app.add_typer(group, name="model")


def show(
    model: Annotated[str, typer.Argument(help="A config key (its canonical net), a sha256 or a file.")],
    file_only: Annotated[
        bool, typer.Option("--file-only", help="MODEL is a file; no ledger is asked (a host has none).")
    ] = False,
    as_json: o.AsJson = False,
) -> None:
    """Show a net: what its header says, after a look at its digest, and its evaluations on record."""
    from ringrift_ops.cli.nets import net_named
    from ringrift_ops.network.weights import read_header as check_header
    from ringrift_ops.settings import CONFIGS

    net = net_named("canonical" if model in CONFIGS else model, model, "MODEL")
    header, tensors = read_header(net.path)
    if "digest" in header:
        check_header(net.path)
    shown: dict[str, Any] = {
        "sha256": net.sha,
        "path": str(net.path),
        "bytes": net.path.stat().st_size,
        **({} if file_only else _on_record(net.sha, header.get("config", model))),
        **header,
        "tensors": tensors,
    }
    if as_json:
        print_json(shown)
    else:
        print_fields(shown)


def _on_record(sha: str, key: str) -> dict[str, Any]:
    """What the ledger knows of a net of config ``key``."""
    from ringrift_ops.ledger import Ledger
    from ringrift_ops.settings import CONFIGS

    ledger, known = Ledger.open(), key in CONFIGS
    evaluations = [one for one in ledger.evaluations(config=key) if one.candidate == sha] if known else []
    canonical = ledger.canonical(key) if known else None
    found = [one for one in ledger.artifacts(config=key, kind="weights") if one.sha == sha] if known else []
    return {
        "canonical": canonical is not None and canonical.sha == sha,
        "waivers": found[0].meta.get("waivers", []) if found else [],
        "evaluations": [
            {"verdict": one.verdict, "reason": one.reason, "gate": one.gate_version, "at": one.created_at}
            for one in evaluations
        ],
    }


def availability(
    name: Annotated[str, typer.Argument(help="A config key.")],
    wait: Annotated[
        bool, typer.Option("--wait", help="Until every node has it, or RINGRIFT_DISTRIBUTION_TIMEOUT is over.")
    ] = False,
    as_json: o.AsJson = False,
) -> None:
    """Show where a config's canonical net is: asked of every host and folder now, beside what the ledger knows."""
    from ringrift_ops.ledger import Ledger
    from ringrift_ops.settings import config_named
    from ringrift_ops.stages.availability import check_model_availability, wait_for_model_distribution
    from ringrift_ops.stages.specs import HOST_DESTINATION

    canonical = Ledger.open().canonical(config_named(name).key)
    if canonical is None:
        raise NoNetError(f"{name} has no canonical net yet; nothing was distributed")
    found = wait_for_model_distribution(name) if wait else check_model_availability(name)
    known = {row.destination.removeprefix(HOST_DESTINATION): row for row in Ledger.open().deliveries(canonical.sha)}
    rows = [
        {"node": node, "available": there, "state": known[node].state if node in known else "pending",
         "reason": known[node].error if node in known else None}
        for node, there in found.items()
    ]  # fmt: skip
    if as_json:
        print_json({"config": name, "sha256": canonical.sha, "nodes": rows})
    else:
        print_table(("node", "available", "state", "reason"), [list(row.values()) for row in rows])
    if not all(found.values()):
        raise typer.Exit(ExitCode.INFRASTRUCTURE)


def read_header(path: Path) -> tuple[dict[str, str], list[str]]:
    """Return the metadata in a weights file and its tensors as ``name dtype [shape]``.

    Reads no tensor. Raises :class:`NotWeightsError`.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as opened:
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 (no mapping)
            tensors = [f"{name} {one.get_dtype()} {list(one.get_shape())}" for name, one in slices.items()]
            return dict(sorted((opened.metadata() or {}).items())), tensors
    except (SafetensorError, OSError) as error:
        raise NotWeightsError(f"{path} is not a safetensors file: {error}") from error


def links(
    repair: Annotated[bool, typer.Option("--repair", help="Make every link agree with the ledger.")] = False,
    reason: Reason = "",
    as_json: o.AsJson = False,
) -> None:
    """Compare canonical_CONFIG and ringrift_best_CONFIG in models/ with the ledger."""
    from ringrift_ops.home import Home
    from ringrift_ops.ledger import Ledger
    from ringrift_ops.operations.links import repair as repair_links
    from ringrift_ops.stages.links import LinkState, links_of

    home, ledger = Home.find(), Ledger.open()
    wrong = repair_links(home, ledger, asker(reason)) if repair else []
    found = links_of(home, ledger)
    if as_json:
        print_json({"links": found, "repaired": wrong})
    else:
        print_table(("config", "link", "state", "net"), [(x.config, x.path.name, x.state, x.sha) for x in found])
        if repair:
            print(f"{len(wrong)} repaired")
    left = [link for link in found if link.state is not LinkState.RIGHT]
    if left:
        raise LinksDisagreeError(
            f"{len(left)} of {len(found)} links disagree with the ledger: {', '.join(one.path.name for one in left)}; "
            + ("move these files away by hand" if repair else "run `ringrift model links --repair`")
        )


def convert(
    model: Annotated[str, typer.Argument(help="A config key (its canonical net), a sha256 or a file.")],
    to: Annotated[str, typer.Option("--to", help="pth: a torch file for other tools; never read back here.")] = _PTH,
    output: Annotated[Path | None, typer.Option("--output", help="Else NAME.pth in the current folder.")] = None,
    as_json: o.AsJson = False,
) -> None:
    """Write a net in another form: `model_state_dict`, `version`, `trained_at`, `elo`, and its header as `metadata`."""
    from ringrift_ops.cli.nets import net_named
    from ringrift_ops.network.weights import convert_to_pth
    from ringrift_ops.settings import CONFIGS

    if to != _PTH:
        raise UnknownFormatError(f"--to {to}: only {_PTH} is written")
    net = net_named("canonical" if model in CONFIGS else model, model, "MODEL")
    target = (output or Path(f"{model if model in CONFIGS else net.path.stem}.{_PTH}")).absolute()
    convert_to_pth(net.path, target)
    if as_json:
        print_json({"path": target, "sha256": net.sha})
    else:
        print(f"{target}: {net.sha[:12]}")
