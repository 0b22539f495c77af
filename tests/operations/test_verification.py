"""After a fix its verification list is run and shown, with evidence, and says no where something does not hold."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ringrift_ops.cli import main
from ringrift_ops.errors import ExitCode
from ringrift_ops.home import Home
from ringrift_ops.operations.control import Controls
from ringrift_ops.operations.verification import LISTS, UnknownFixError, verify
from ringrift_ops.settings import Settings
from ringrift_ops.stages.links import repair_links
from ringrift_ops.store import MissingObjectError, Store


@pytest.fixture
def controls(bench: Any, house: Home) -> Controls:
    return Controls(house, Settings.load(house), bench.ledger, None)


def promoted(bench: Any, house: Home, config: str = "hex8_2p") -> str:
    """A net in force whose file is in the store."""
    generation, lease = bench.running(config=config)
    sha, path = Store(house).put(f"a net of {config}".encode(), ".safetensors")
    common = {"config": config, "generation": generation.id, "token": lease.token}
    bench.ledger.record_artifact(sha, "weights", house.relative(path), 5, parents=[], meta={}, now=bench.now, **common)
    bench.ledger.compare_and_swap_canonical(
        config, None, sha, lease.token, generation=generation.id, reason="won", actor="test", kind="forced"
    )
    repair_links(house, bench.ledger, [config])
    return str(sha)


def test_R55_a_net_that_is_lost_keeps_no_other_config_from_its_links(bench: Any, house: Home) -> None:
    Store(house).get(promoted(bench, house, "hex8_2p")).unlink()
    sha = promoted(bench, house, "square8_2p")
    house.best_link("square8_2p").unlink()
    with pytest.raises(MissingObjectError, match="canonical_hex8_2p"):
        repair_links(house, bench.ledger)
    assert house.best_link("square8_2p").resolve() == Store(house).get(sha)


@pytest.mark.parametrize("fix", LISTS)
def test_R80_every_list_can_be_run_on_an_empty_home_and_gives_evidence(controls: Controls, fix: str) -> None:
    found = verify(fix, controls, "hex8_2p")
    assert all(one.evidence for one in found)
    assert [one.name for one in found if not one.ok] == [
        name for name in ("run is under way",) if name in [one.name for one in found]
    ]


def test_R80_a_list_says_no_and_why_where_the_fix_has_not_mended_it(
    controls: Controls, bench: Any, house: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    sha = promoted(bench, house)
    assert main(["verify", "rollback", "hex8_2p"]) == ExitCode.DONE
    assert "2 links are right" in capsys.readouterr().out
    house.best_link("hex8_2p").unlink()
    stored = Store(house).get(sha)
    stored.chmod(0o644)
    stored.write_bytes(b"another")
    assert main(["verify", "rollback", "hex8_2p", "--json"]) == ExitCode.GATE_SAID_NO
    told = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert told["links are right"]["evidence"] == "ringrift_best_hex8_2p.safetensors is missing"
    assert told["canonical is whole"]["ok"] is False
    assert "could not be checked" in told["canonical is whole"]["evidence"]
    assert told["net is delivered"]["ok"] is True


def test_R80_failed_stages_open_breakers_and_dead_locks_do_not_hold(controls: Controls, bench: Any) -> None:
    generation, lease = bench.running()
    bench.ledger.start_stage(generation.id, "export", 0, {}, lease.token, now=bench.now)
    bench.ledger.record_stage_error(generation.id, "export", 0, "disk full", lease.token, bench.now)
    bench.ledger.change_breaker("hex8_2p", "export", {"state": "open", "reason": "x", "opened_at": bench.now})
    found = {one.name: (one.ok, one.evidence) for one in verify("reset", controls, "hex8_2p")}
    assert found["no stage has failed"] == (False, "export: disk full")
    assert found["breakers are closed"] == (False, "export: x")
    assert found["lock is free or used"] == (False, "held by run, and nothing of it is alive")


def test_R80_fixes_show_their_list_after_acting(bench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    bench.running()
    bench.ledger.change_breaker("hex8_2p", "export", {"state": "open", "reason": "x", "opened_at": bench.now})
    for command, name in (
        (["breakers", "reset", "--reason", "mended"], "breakers are closed"),
        (["lock", "hex8_2p", "--release", "--reason", "gone"], "lock is free or used"),
        (["reset", "hex8_2p", "--reason", "stuck"], "canonical is whole"),
    ):
        assert main(command) == ExitCode.DONE
        line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith(name))
        assert line.split()[len(name.split())] == "yes"
    bench.generation("second")
    assert main(["reset", "hex8_2p", "--reason", "stuck", "--json"]) == ExitCode.DONE
    told = capsys.readouterr()
    assert json.loads(told.out)[0]["config"] == "hex8_2p"
    assert "verified: canonical is whole: yes: no net is in force yet" in told.err


def test_an_unknown_fix_lists_those_there_are(controls: Controls) -> None:
    with pytest.raises(UnknownFixError, match="there are: recover, full recovery, reset"):
        verify("prayer", controls, "hex8_2p")
