"""The stand-in's seven stages. Each writes the artifacts that its result names and records them in the ledger."""

import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from ringrift_ops.home import Home
from ringrift_ops.ledger import EventType, GamePair, Ledger
from ringrift_ops.settings import Settings
from ringrift_ops.stages.specs import Verdict
from ringrift_ops.store import Store, atomic_write, replace_symlink

MOVES_PER_GAME = 200


def main(stage: str, argv: list[str]) -> int:
    paths = {name: Path(argv[argv.index(name) + 1]) for name in ("--spec", "--result", "--heartbeat")}
    spec = json.loads(paths["--spec"].read_text())
    home = Home.find()
    script = _script(home, spec["config"])
    _note(home, {"stage": stage, "shard": spec.get("shard", 0), "generation": spec["generation"], "pid": os.getpid()})
    code, times = script.get("fail", {}).get(stage, (0, 0))
    tried = _count(home, f"{stage}-{spec['generation']}-{spec.get('shard', 0)}")
    begun = time.monotonic()
    seconds = float(script.get("seconds", {}).get(stage, 0.2))
    steps = max(1, int(seconds / 0.2))
    for done in range(steps):
        time.sleep(seconds / steps)
        line = {"t": "", "stage": stage, "phase": stage, "done": done + 1, "total": steps, "unit": "steps",
                "message": "", "metrics": {}}  # fmt: skip
        with paths["--heartbeat"].open("a") as beat:
            beat.write(json.dumps(line) + "\n")
        print(f"{stage} {done + 1}/{steps}", flush=True)
    if code and tried <= times:
        error = {"type": "StandInError", "message": f"{stage} was told to fail", "exit_code": code}
        atomic_write(paths["--result"], json.dumps({"error": error}).encode())
        return int(code)
    made = Stages(home, spec, script)
    result = getattr(made, stage)() | (
        {} if stage in ("promote", "distribute") else {"seconds": time.monotonic() - begun}
    )
    atomic_write(paths["--result"], json.dumps(result).encode())
    if stage == "gauntlet":
        return {"PASS": 0, "FAIL": 1, "NO_EVIDENCE": 3}[result["verdict"]]
    return 0


class Stages:
    def __init__(self, home: Home, spec: dict[str, Any], script: dict[str, Any]) -> None:
        self.home, self.spec, self.script = home, spec, script
        self.ledger = Ledger.open(Settings.load(home).ledger_url)
        self.store = Store(home)

    def _artifact(self, kind: str, content: bytes, suffix: str, parents: list[tuple[str, str]], **meta: Any) -> str:
        sha, path = self.store.put(content, suffix)
        self.ledger.record_artifact(
            sha, kind, str(path), len(content), self.spec["config"], self.spec["generation"],
            parents=parents, meta=meta, token=self.spec["token"],
        )  # fmt: skip
        self.path = str(path)
        return sha

    def _text(self, name: str) -> bytes:
        return f"{name} {self.spec['config']} {self.spec['seed']}".encode()

    def selfplay(self) -> dict[str, Any]:
        games, moves = self.spec["games"], self.spec["games"] * MOVES_PER_GAME
        parents = [(self.spec["weights"], "player")] if self.spec["weights"] else []
        sha = self._artifact("games", self._text("games"), ".db", parents, games=games, moves=moves)
        return {"batch": sha, "path": self.path, "games": games, "moves": moves, "distinct_fraction": 1.0,
                "policy_games": 0}  # fmt: skip

    def parity(self) -> dict[str, Any]:
        batches = [a for a in self.ledger.artifacts(config=self.spec["config"], kind="games")
                   if a.path in self.spec["batches"]]  # fmt: skip
        report = self._artifact("parity_report", self._text("parity"), ".json", [(b.sha, "games") for b in batches])
        for batch in batches:
            self.ledger.record_parity(
                batch.sha, report, passed=True, checked=batch.meta["games"], failed=0,
                generation=self.spec["generation"], token=self.spec["token"],
            )  # fmt: skip
        return {"report": report, "checked": sum(b.meta["games"] for b in batches), "failed": 0, "failures": [],
                "passed": True}  # fmt: skip

    def export(self) -> dict[str, Any]:
        batches = [b for b in self.ledger.games_in_window(self.spec["config"]) if b.path in self.spec["databases"]]
        rows = sum(batch.rows for batch in batches)
        sha = self._artifact(
            "dataset", self._text("dataset"), ".npz", [(batch.sha, "games") for batch in batches], samples=rows
        )
        return {"dataset": sha, "path": self.path, "games": sum(b.games for b in batches), "duplicates_removed": 0,
                "unchecked_games": 0, "samples": rows, "train_samples": rows, "policy_samples": 0,
                "soft_target_fraction": 1.0}  # fmt: skip

    def train(self) -> dict[str, Any]:
        parent = self.spec["parent"]
        parents = [(self.spec["dataset"], "dataset")] + ([(parent, "parent")] if parent else [])
        sha = self._artifact("weights", self._text("weights"), ".safetensors", parents)
        return {"weights": sha, "path": self.path, "parent": parent, "dataset": self.spec["dataset"], "samples": 1,
                "steps": 1, "first_epoch_loss": 1.0, "train_loss": 0.5, "validation_loss": 0.6,
                "parent_validation_loss": None, "served_difference": 0.0, "resumed_from_step": 0}  # fmt: skip

    def gauntlet(self) -> dict[str, Any]:
        verdict = self.script.get("verdict", "PASS")
        opponents = [
            {"opponent": name, "games": 100, "wins": 90, "losses": 10, "draws": 0, "distinct_fraction": 1.0,
             "win_rate": 0.9, "lower": 0.83, "upper": 0.95, "threshold": 0.6, "verdict": verdict, "reason": "stand-in",
             "errors": 0}
            for name in self.spec["opponents"]
        ]  # fmt: skip
        candidate = self.spec["candidate"]
        report = self._artifact("gauntlet_report", self._text("gauntlet"), ".json", [(candidate, "candidate")])
        self.ledger.record_evaluation(
            report, config=self.spec["config"], generation=self.spec["generation"], candidate=candidate,
            previous=self.spec["previous"], gate_version="1", verdict=Verdict(verdict), reason="stand-in",
            opponents=opponents, pairs=[GamePair("random", 0, 1, [1.0, 1.0], ["a", "b"])], token=self.spec["token"],
        )  # fmt: skip
        return {"report": report, "path": self.path, "candidate": candidate, "gate_version": "1", "verdict": verdict,
                "reason": "stand-in", "opponents": opponents, "mirror": None}  # fmt: skip

    def promote(self) -> dict[str, Any]:
        evaluation = self.ledger.evaluations(candidate=self.spec["candidate"])[0]
        if evaluation.verdict is not Verdict.PASS:
            payload = {"candidate": self.spec["candidate"], "report": evaluation.report,
                       "verdict": evaluation.verdict, "reason": evaluation.reason}  # fmt: skip
            self.ledger.record_event(
                EventType.MODEL_PROMOTION_FAILED, self.spec["config"], self.spec["generation"], payload
            )
            now = self.ledger.canonical(self.spec["config"])
            return {"promoted": False, "canonical": now.sha if now else None, "previous": None, "reason": "stand-in"}
        moved = self.ledger.compare_and_swap_canonical(
            self.spec["config"], evaluation.previous, self.spec["candidate"], self.spec["token"],
            generation=self.spec["generation"], reason="stand-in", actor="test", evaluation=evaluation.id,
        )  # fmt: skip
        replace_symlink(self.home.canonical_link(self.spec["config"]), self.home.resolve(self.spec["candidate_path"]))
        return {"promoted": True, "canonical": moved.sha, "previous": moved.previous, "reason": "stand-in"}

    def distribute(self) -> dict[str, Any]:
        return {"weights": self.spec["weights"], "deliveries": []}


def _note(home: Home, what: dict[str, Any]) -> None:
    with (home.root / "standin.log").open("a") as log:
        log.write(json.dumps(what | {"t": time.time()}) + "\n")


def _script(home: Home, config: str) -> dict[str, Any]:
    path = home.root / "standin.json"
    return json.loads(path.read_text()).get(config, {}) if path.exists() else {}


def _count(home: Home, name: str) -> int:
    path = home.root / f"tried-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    with path.open("a") as tries:
        tries.write("x")
    return path.stat().st_size


if __name__ == "__main__":
    sys.exit("this is imported by sitecustomize")
