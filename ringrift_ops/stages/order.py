"""What a stage is asked: the rows of the settings, as its spec. The one place where specs are made.

A person's door asks outside any generation; ``stages/plan.py`` asks for a generation, with what its ledger row says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ringrift_ops.settings import ConfigRow, ProfileRow, Settings
from ringrift_ops.stages.specs import (
    DistributeSpec,
    ExportSpec,
    GauntletSpec,
    ParitySpec,
    PromoteSpec,
    SearchSettings,
    SelfplaySpec,
    Sha256,
    TrainSpec,
)

NO_TOKEN = 0


@dataclass(frozen=True)
class Order:
    """For whom, by which rows, and from which seed. Where data or a parent comes from is always an argument."""

    config: ConfigRow
    profile: ProfileRow
    generation: int | None
    token: int
    seed: int

    @classmethod
    def outside(cls, settings: Settings, config: str, profile: str | None, seed: int) -> Order:
        """Return an order of no generation; raises ``UnknownConfigError``, ``UnknownProfileError``."""
        return cls(settings.config(config), settings.profile(config, profile), None, NO_TOKEN, seed)

    def games(self, *, parent: Sha256 | None) -> int:
        """Return how many games the profile has played by the net ``parent``, or by its first player without one."""
        return self.profile.first_games if parent is None else self.profile.games

    def selfplay(self, *, parent: Sha256 | None, shard: int, games: int, output: str | None) -> SelfplaySpec:
        """Return a batch of self-play: by the net ``parent``, or by the profile's first player without one."""
        row, first = self.profile, parent is None
        return SelfplaySpec(
            config=self.config.key,
            generation=self.generation,
            token=self.token,
            seed=self.seed,
            shard=shard,
            games=games,
            max_moves=self.config.max_moves,
            player=row.first_player if first else "net",
            weights=parent,
            search=SearchSettings(
                simulations=row.first_simulations if first else row.simulations,
                c_puct=row.c_puct,
                temperature=row.first_temperature if first else row.temperature,
                temperature_plies=row.temperature_plies,
                noise_fraction=0.0 if first and row.first_simulations == 0 else row.noise_fraction,
                random_move_fraction=row.random_move_fraction,
            ),
            opening_plies=row.opening_plies,
            output=output,
        )

    def parity(self, *, batches: Sequence[str]) -> ParitySpec:
        """Return the check of game databases by the second engine."""
        return ParitySpec(
            config=self.config.key,
            generation=self.generation,
            token=self.token,
            seed=self.seed,
            batches=list(batches),
            sample=self.profile.parity_sample,
            fail_threshold=self.profile.parity_fail_threshold,
            bundles=None,
        )

    def export(self, *, databases: Sequence[str], window: int | None, output: str | None) -> ExportSpec:
        """Return the making of a dataset; ``window``: the newest rows to keep, None for all."""
        return ExportSpec(
            config=self.config.key,
            generation=self.generation,
            token=self.token,
            seed=self.seed,
            databases=list(databases),
            output=output,
            max_samples=self.profile.max_samples,
            split_ratio=self.profile.split_ratio,
            window=window,
        )

    def train(
        self,
        *,
        dataset: Sha256,
        dataset_path: str,
        parent: Sha256 | None,
        resume_from: str | None,
        output: str | None,
    ) -> TrainSpec:
        """Return one training, from ``parent``'s weights or from a random start; gone on with, if interrupted."""
        row = self.profile
        return TrainSpec(
            config=self.config.key,
            generation=self.generation,
            token=self.token,
            seed=self.seed,
            dataset=dataset,
            dataset_path=dataset_path,
            parent=parent,
            resume_from=resume_from,
            family=row.family,
            sizes=self.config.sizes(row.family),
            epochs=row.epochs,
            batch_size=row.batch_size,
            learning_rate=row.learning_rate,
            weight_decay=row.weight_decay,
            clip_norm=row.clip_norm,
            device=row.device,
            checkpoint_every_steps=row.checkpoint_every_steps,
            checkpoint_every_epoch=row.checkpoint_every_epoch,
            keep_checkpoints=row.keep_checkpoints,
            remedies=row.remedies,
            data_subset=row.data_subset,
            stop_after_epochs=row.stop_after_epochs,
            mixed_precision=row.mixed_precision,
            cudnn_benchmark=row.cudnn_benchmark,
            cudnn_deterministic=row.cudnn_deterministic,
            output=output,
            epoch_seconds=row.epoch_timeout_seconds,
            total_seconds=row.task_timeout_seconds,
        )

    def gauntlet(
        self, *, candidate: Sha256, candidate_path: str, previous: Sha256 | None, previous_path: str | None
    ) -> GauntletSpec:
        """Return the gauntlet of a candidate; against the previous net only when there is one."""
        row = self.profile
        return GauntletSpec(
            config=self.config.key,
            generation=self.generation,
            token=self.token,
            seed=self.seed,
            candidate=candidate,
            candidate_path=candidate_path,
            previous=previous,
            previous_path=previous_path,
            opponents=["random", "heuristic"] if previous is None else ["random", "heuristic", "previous"],
            search=SearchSettings(simulations=row.gauntlet_simulations, c_puct=row.c_puct, temperature=0.0),
            games_per_look=row.games_per_look,
            cap=row.cap,
            cap_previous=row.cap_previous,
            mirror_games=row.mirror_games,
            max_moves=self.config.max_moves,
        )

    def promote(
        self,
        *,
        candidate: Sha256,
        candidate_path: str,
        report: Sha256 | None,
        report_path: str | None,
        auto_promote: bool,
    ) -> PromoteSpec:
        """Return the decision on a candidate, by the evidence in ``report`` alone."""
        return PromoteSpec(
            config=self.config.key,
            generation=self.generation,
            token=self.token,
            seed=self.seed,
            candidate=candidate,
            candidate_path=candidate_path,
            report=report,
            report_path=report_path,
            auto_promote=auto_promote,
        )

    def distribute(self, *, weights: Sha256, destinations: Sequence[str]) -> DistributeSpec:
        """Return the delivery of a net."""
        return DistributeSpec(
            config=self.config.key,
            generation=self.generation,
            token=self.token,
            seed=self.seed,
            weights=weights,
            destinations=list(destinations),
        )
