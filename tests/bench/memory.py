"""Peak memory of every stage, as its own process, on few games and on many: it is to be flat."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ringrift_ops.home import Home
from ringrift_ops.ledger import Ledger, generation_lease
from ringrift_ops.stages.specs import Stage, StageSpec
from tests.bench.figures import Row, Sheet, number
from tests.bench.machine import BenchError, temporary_home
from tests.bench.scale import Scale
from tests.bench.speeds import CONFIG, order, selfplay_spec

FLAT: Final = 1.25
"""What many games may take, over what few games take."""

GAUNTLET_SIMULATIONS: Final = 2
MB: Final = 1_000_000


class StageError(BenchError):
    """A stage gave no result."""


@dataclass
class _Line:
    """The seven stages one after the other on so many games."""

    home: Home
    games: int
    peaks: dict[Stage, float] = field(default_factory=dict)

    def run(self) -> dict[Stage, float]:
        """Return the peak of every stage, MB."""
        orders = order(self.home, 1)
        batch = self.home.games / "batch.db"
        self._stage(Stage.SELFPLAY, selfplay_spec(self.home, self.games, 1, 0, batch))
        self._stage(Stage.PARITY, orders.parity(batches=[str(batch)]))
        data = self._stage(Stage.EXPORT, orders.export(databases=[str(batch)], window=None, output=None))
        training = orders.train(
            dataset=data["dataset"], dataset_path=data["path"], parent=None, resume_from=None, output=None
        )
        net = self._stage(Stage.TRAIN, training.model_copy(update={"epochs": 1}))
        judging = orders.gauntlet(
            candidate=net["weights"], candidate_path=net["path"], previous=None, previous_path=None
        )
        search = judging.search.model_copy(update={"simulations": GAUNTLET_SIMULATIONS})
        # The games nobody gates are played to the last one, whatever the gate decides before.
        judging = judging.model_copy(update={"search": search, "mirror_games": self.games, "opponents": ["random"]})
        verdict = self._stage(Stage.GAUNTLET, judging)
        self._promote(net, verdict)
        target = str(self.home.root / "destination")
        self._stage(Stage.DISTRIBUTE, orders.distribute(weights=net["weights"], destinations=[target]))
        return self.peaks

    def _promote(self, net: Mapping[str, Any], verdict: Mapping[str, Any]) -> None:
        """On whatever verdict there is: a no takes the same way."""
        spec = order(self.home, 1).promote(
            candidate=net["weights"],
            candidate_path=net["path"],
            report=verdict["report"],
            report_path=verdict["path"],
            auto_promote=True,
        )
        ledger, name = Ledger.open(), generation_lease(CONFIG)
        lease = ledger.acquire_lease(name, "bench")
        try:
            self._stage(Stage.PROMOTE, spec.model_copy(update={"token": lease.token}))
        finally:
            ledger.release_lease(name, lease.token)

    def _stage(self, stage: Stage, spec: StageSpec) -> dict[str, Any]:
        """Run a stage as the pipeline does and return its result; a gate's no (exit 1, 3) is a result too."""
        folder = self.home.root / "specs"
        folder.mkdir(exist_ok=True)
        asked, answer, log = (folder / f"{stage}{suffix}" for suffix in (".json", ".result.json", ".log"))
        asked.write_text(spec.model_dump_json())
        command = [sys.executable, "-m", "ringrift_ops.cli", stage.value, "--spec", str(asked), "--result", str(answer)]
        peak = folder / f"{stage}.peak.json"
        launcher = [sys.executable, "-S", str(Path(__file__).with_name("launcher.py")), str(peak)]
        with log.open("wb") as output:
            subprocess.run([*launcher, *command], stdout=output, stderr=subprocess.STDOUT, check=True)
        result: dict[str, Any] = json.loads(answer.read_text()) if answer.exists() else {"error": _end_of(log)}
        if "error" in result:
            raise StageError(f"{stage} on {self.games} games: {result['error']}")
        self.peaks[stage] = json.loads(peak.read_text())["bytes"] / MB
        print(f"   {stage} on {self.games:,} games: {number(self.peaks[stage])} MB", flush=True)
        return result


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-500:]


def memory(scale: Scale) -> list[Row]:
    """Peak memory of the seven stages on few and on many games."""
    sheet = Sheet("memory")
    peaks = {}
    for games in (scale.few_games, scale.many_games):
        with temporary_home() as home:
            peaks[games] = _Line(home, games).run()
    for stage in Stage:
        few, many = (peaks[games][stage] for games in (scale.few_games, scale.many_games))
        sheet.add(f"{stage}, {scale.few_games:,} games", few, "MB", better="lower", note=_NOTES.get(stage, ""))
        sheet.add(
            f"{stage}, {scale.many_games:,} games", many, "MB", target=few * FLAT, better="lower",
            note=f"{many / few:.2f} times that of {scale.few_games:,}",
        )  # fmt: skip
    return sheet.rows


_NOTES: Final = {
    Stage.PARITY: "the larger of its two processes",
    Stage.TRAIN: "the mapped dataset counts where it was touched",
    Stage.GAUNTLET: "so many games against heuristic search",
    Stage.PROMOTE: "on the evidence of that gauntlet",
}
