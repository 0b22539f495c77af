"""From a generation to what its stages are asked: the specs, and nothing but the specs.

Everything here reads the ledger and the settings and changes neither. The same generation gives the same specs however
often it is asked, so a stage that is asked again is recognised as the same work.
"""

from __future__ import annotations

from dataclasses import dataclass

from ringrift_ops.errors import NoDataError
from ringrift_ops.home import Home
from ringrift_ops.ledger import Artifact, Generation, Ledger, WindowBatch, derived_seed
from ringrift_ops.settings import ConfigRow, Inventory, ProfileRow, Settings
from ringrift_ops.stages.curriculum import weight_of, weighted
from ringrift_ops.stages.order import NO_TOKEN, Order
from ringrift_ops.stages.specs import (
    HOST_DESTINATION,
    DistributeSpec,
    ExportResult,
    ExportSpec,
    GauntletResult,
    GauntletSpec,
    ParitySpec,
    PromoteSpec,
    SelfplayResult,
    SelfplaySpec,
    Sha256,
    Stage,
    StageSpec,
    TrainResult,
    TrainSpec,
)


def host_destinations(home: Home) -> list[str]:
    """Return the hosts of the inventory as destinations."""
    return [HOST_DESTINATION + name for name in Inventory.load(home).hosts]


class NothingToWorkOnError(NoDataError):
    """A stage was asked for whose input does not exist."""


@dataclass(frozen=True)
class Plan:
    """What one generation does. ``candidate``: the net to judge when it was trained elsewhere.

    ``most_games``: how many it plays, unless the profile says it.
    """

    ledger: Ledger
    settings: Settings
    generation: Generation
    candidate: Sha256 | None = None
    most_games: int | None = None

    @property
    def config(self) -> ConfigRow:
        return self.settings.config(self.generation.config)

    @property
    def profile(self) -> ProfileRow:
        return self.settings.profile(self.generation.config, self.generation.profile)

    def order(self, stage: Stage, token: int, shard: int = 0) -> Order:
        """Return what a stage of this generation is asked by, its seed derived from the generation's."""
        seed = derived_seed(self.generation.seed, stage.value, shard)
        return Order(self.config, self.profile, self.generation.id, token, seed)

    @property
    def shards(self) -> list[int]:
        """The shards of self-play that get at least one game."""
        return list(range(min(self.profile.shards, self.games)))

    @property
    def games(self) -> int:
        """The games of this generation's self-play: as many as were asked for, else the profile's, moved by the
        curriculum once there is a net.
        """
        parent = self.generation.parent
        games = self.most_games or self.order(Stage.SELFPLAY, NO_TOKEN).games(parent=parent)
        return games if parent is None else weighted(games, weight_of(self.ledger, self.generation))

    def spec(self, stage: Stage, token: int, shard: int = 0) -> StageSpec:
        """Return what ``stage`` is asked in this generation under the fencing ``token``.

        Raises :class:`NothingToWorkOnError` when an earlier stage has not made what this one needs.
        """
        match stage:
            case Stage.SELFPLAY:
                return self._selfplay(token, shard)
            case Stage.PARITY:
                return self._parity(token)
            case Stage.EXPORT:
                return self._export(token)
            case Stage.TRAIN:
                return self._train(token)
            case Stage.GAUNTLET:
                return self._gauntlet(token)
            case Stage.PROMOTE:
                return self._promote(token)
            case Stage.DISTRIBUTE:
                return self._distribute(token)

    def window(self) -> list[WindowBatch]:
        """Return the batches that the generation's dataset is made of, newest first (gates.md, data window)."""
        usable = self.ledger.usable_rows(self.generation.config)
        return self.ledger.games_in_window(self.generation.config, self.profile.window(usable))

    # --- one stage each ----------------------------------------------------------------------------

    def _result(self, stage: Stage, shard: int = 0) -> dict[str, object] | None:
        return self.ledger.stage_result(self.generation.id, stage.value, shard)

    def _selfplay(self, token: int, shard: int) -> SelfplaySpec:
        order, parent = self.order(Stage.SELFPLAY, token, shard), self.generation.parent
        share, rest = divmod(self.games, len(self.shards))
        return order.selfplay(parent=parent, shard=shard, games=share + (shard < rest), output=None)

    def _parity(self, token: int) -> ParitySpec:
        runs = self.ledger.stage_runs(self.generation.id, Stage.SELFPLAY.value)
        own = [SelfplayResult.model_validate(run.result).path for run in runs if run.state == "done"]
        batches = own or [artifact.path for artifact in self._unchecked()]
        if not batches:
            raise NothingToWorkOnError(f"{self.generation.config}: no games wait for parity; run selfplay first")
        return self.order(Stage.PARITY, token).parity(batches=batches)

    def _unchecked(self) -> list[Artifact]:
        """Return the config's games that parity has not passed, whoever made them."""
        passed = {batch.sha for batch in self.ledger.games_in_window(self.generation.config)}
        made = self.ledger.artifacts(config=self.generation.config, kind="games", clean=True)
        return [artifact for artifact in made if artifact.sha not in passed]

    def _export(self, token: int) -> ExportSpec:
        window = self.window()
        if not window:
            raise NothingToWorkOnError(
                f"{self.generation.config}: no games have passed parity; run selfplay and parity"
            )
        usable = self.ledger.usable_rows(self.generation.config)
        return self.order(Stage.EXPORT, token).export(
            databases=[batch.path for batch in window], window=self.profile.window(usable), output=None
        )

    def _train(self, token: int) -> TrainSpec:
        dataset, path = self._dataset()
        return self.order(Stage.TRAIN, token).train(
            dataset=dataset, dataset_path=path, parent=self.generation.parent, resume_from=None, output=None
        )

    def _dataset(self) -> tuple[Sha256, str]:
        """Return the dataset of this generation, else the config's newest."""
        if (result := self._result(Stage.EXPORT)) is not None:
            made = ExportResult.model_validate(result)
            return made.dataset, made.path
        newest = self.ledger.artifacts(config=self.generation.config, kind="dataset", clean=True)
        if not newest:
            raise NothingToWorkOnError(f"{self.generation.config}: there is no dataset; run export first")
        return newest[0].sha, newest[0].path

    def _net(self) -> tuple[Sha256, str]:
        """Return the candidate: the one given, this generation's, else the config's newest net."""
        if self.candidate is not None:
            return self.candidate, self.ledger.artifact(self.candidate).path
        if (result := self._result(Stage.TRAIN)) is not None:
            made = TrainResult.model_validate(result)
            return made.weights, made.path
        newest = self.ledger.artifacts(config=self.generation.config, kind="weights", clean=True)
        if not newest:
            raise NothingToWorkOnError(f"{self.generation.config}: there is no net to judge; run train first")
        return newest[0].sha, newest[0].path

    def _gauntlet(self, token: int) -> GauntletSpec:
        candidate, path = self._net()
        previous = self.generation.parent if self.generation.parent != candidate else None
        return self.order(Stage.GAUNTLET, token).gauntlet(
            candidate=candidate,
            candidate_path=path,
            previous=previous,
            previous_path=None if previous is None else self.ledger.artifact(previous).path,
        )

    def _judged(self) -> GauntletResult:
        result = self._result(Stage.GAUNTLET)
        if result is None:
            raise NothingToWorkOnError(
                f"{self.generation.config}: generation {self.generation.id} has no gauntlet to go by; run gauntlet"
            )
        return GauntletResult.model_validate(result)

    def _promote(self, token: int) -> PromoteSpec:
        judged = self._judged()
        return self.order(Stage.PROMOTE, token).promote(
            candidate=judged.candidate,
            candidate_path=self.ledger.artifact(judged.candidate).path,
            report=judged.report,
            report_path=judged.path,
            auto_promote=self.settings.auto_promote,
        )

    def _distribute(self, token: int) -> DistributeSpec:
        canonical = self.ledger.canonical(self.generation.config)
        if canonical is None:
            raise NothingToWorkOnError(
                f"{self.generation.config}: no net was promoted yet; there is none to distribute"
            )
        return self.order(Stage.DISTRIBUTE, token).distribute(
            weights=canonical.sha,
            destinations=[*self.settings.destinations, *host_destinations(Home(self.settings.home))],
        )
