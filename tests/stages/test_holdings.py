"""What there is of a config, found by content, and the state of this machine (R27, R37)."""

from __future__ import annotations

import json
import shutil
from typing import Any

import numpy as np

from ringrift_ops.cli import main
from ringrift_ops.errors import ExitCode
from ringrift_ops.home import Home
from ringrift_ops.runbook import GameDiscovery
from tests.stages.conftest import Made


def test_R27_databases_of_a_config_are_found_by_content_and_its_datasets_counted(
    made: Made, house: Home, capsys: Any
) -> None:
    shutil.copy(house.resolve(made.played.path), house.games / "any name")
    found = GameDiscovery().find_databases_for_config("hex8", 2)
    assert [one.game_count for one in found] == [made.played.games] * 2
    assert {one.path.name for one in found} >= {"any name"}
    assert GameDiscovery(str(house.games)).find_databases_for_config("hex8", 3) == []
    dataset = np.load(house.resolve(made.exported.path))
    assert len(dataset["features"]) == made.exported.samples
    assert main(["data", "hex8_2p"]) == ExitCode.DONE
    said = capsys.readouterr().out
    assert f"any name: {made.played.games} games" in said
    assert main(["data", "hex8_2p", "--json"]) == ExitCode.DONE
    told = json.loads(capsys.readouterr().out)
    assert [one["samples"] for one in told["datasets"]] == [made.exported.samples]
    assert main(["data", "hex9_2p"]) == ExitCode.WRONG_USAGE
    assert main(["data", "games", "hex8_2p", "--folder", str(house.root / "nowhere")]) == ExitCode.NO_DATA


def test_R37_this_machines_cpu_memory_gpu_and_disk_are_in_the_clusters_health(house: Home, capsys: Any) -> None:
    assert main(["cluster", "health", "--json"]) == ExitCode.DONE
    [here] = json.loads(capsys.readouterr().out)["here"]
    facts = here["facts"]
    assert facts["cores"] >= 1
    assert 0 < facts["memory_free"] <= facts["memory_total"]
    assert 0 < facts["disk_free"] <= facts["disk_total"]
    assert isinstance(facts["gpus"], list)
    assert main(["cluster", "health"]) == ExitCode.DONE
    head, line = capsys.readouterr().out.splitlines()
    assert ("cpu" in head, "memory free" in head) == (True, True)
    assert line.startswith("this machine  up")
