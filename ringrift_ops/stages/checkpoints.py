"""Where a training keeps its checkpoints: one chain per training, wherever and however often it is resumed."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ringrift_ops.home import Home
from ringrift_ops.stages.specs import TrainSpec

LIMITS = ("epoch_seconds", "total_seconds")


def training_facts(spec: TrainSpec) -> TrainSpec:
    """Return the training itself: not under which token it runs, where it was interrupted or how long it may take.

    Sizes in alphabetical order, as they are in a job's ``spec.json``: the same training has the same text everywhere.
    """
    itself = {"token": 0, "resume_from": None, "sizes": dict(sorted(spec.sizes.items()))}
    return spec.model_copy(update=itself | {name: TrainSpec.model_fields[name].default for name in LIMITS})


def checkpoint_folder(home: Home, spec: TrainSpec) -> Path:
    """Where the checkpoints of this training lie: one chain per training, whatever token it runs under."""
    facts = training_facts(spec).model_dump_json(exclude=set(LIMITS))
    run = f"g{spec.generation}" if spec.generation is not None else "x"
    return home.training / "checkpoints" / f"{spec.config}-{run}-{hashlib.sha256(facts.encode()).hexdigest()[:12]}"
