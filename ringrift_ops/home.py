"""Where an installation keeps its things: every path below ``RINGRIFT_HOME``, named once.

Nothing here touches the disk except :meth:`Home.ensure`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ringrift_ops.errors import InfrastructureError

HOME_VARIABLE = "RINGRIFT_HOME"


class HomeNotWritableError(InfrastructureError):
    """A folder of the home could not be made."""


@dataclass(frozen=True)
class Home:
    """The folder of one installation. ``root`` is absolute."""

    root: Path

    @classmethod
    def find(cls, environ: Mapping[str, str] | None = None) -> Home:
        """Return the home named by ``RINGRIFT_HOME``, else ``.ringrift`` in the project folder.

        The project folder is the parent of this package when that is a checkout, else the
        current folder. ``environ`` defaults to the process environment.
        """
        named = (os.environ if environ is None else environ).get(HOME_VARIABLE, "").strip()
        if named:
            return cls(Path(named).expanduser().absolute())
        return cls(project_folder() / ".ringrift")

    @property
    def config(self) -> Path:
        """Files that a person edits; a missing one falls back to the packaged defaults."""
        return self.root / "config"

    @property
    def settings_file(self) -> Path:
        return self.config / "settings.yaml"

    @property
    def pipeline_file(self) -> Path:
        """What the phases of the pipeline do where nobody says otherwise, in the runbook's form."""
        return self.config / "pipeline_config.yaml"

    @property
    def inventory(self) -> Path:
        """The hosts that work may run on; none without this file."""
        return self.config / "distributed_hosts.yaml"

    @property
    def host_keys(self) -> Path:
        """The host keys that `ringrift cluster trust` was told to trust, in the form of ``known_hosts``."""
        return self.config / "host_keys"

    @property
    def ledger_file(self) -> Path:
        return self.root / "ledger.db"

    @property
    def ledger_url(self) -> str:
        """SQLAlchemy URL of the default ledger (SQLite)."""
        return f"sqlite:///{self.ledger_file}"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def games(self) -> Path:
        """Game databases."""
        return self.data / "games"

    @property
    def training(self) -> Path:
        """Datasets, and the checkpoints of running trainings."""
        return self.data / "training"

    @property
    def parity(self) -> Path:
        """Parity reports and state bundles."""
        return self.data / "parity"

    @property
    def models(self) -> Path:
        """Links to the nets in force."""
        return self.root / "models"

    @property
    def store(self) -> Path:
        """Immutable files by sha256."""
        return self.root / "store"

    @property
    def jobs(self) -> Path:
        return self.root / "jobs"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def airflow(self) -> Path:
        return self.root / "airflow"

    @property
    def edge(self) -> Path:
        """What is known of the hosts of role edge, and what they have sent."""
        return self.root / "edge"

    @property
    def worker(self) -> Path:
        """Airflow's own files of an Edge worker that runs in this home."""
        return self.root / "edge-worker"

    @property
    def numba(self) -> Path:
        """Compiled rules and search."""
        return self.root / "numba"

    @property
    def pipeline_state(self) -> Path:
        """A view of the ledger for people and scripts (R65); never read back."""
        return self.root / "pipeline_state.json"

    @property
    def env(self) -> Path:
        """What a shell sources so that plain ``airflow`` and ``ringrift`` mean this installation."""
        return self.root / "env"

    def job(self, job_id: str) -> Path:
        return self.jobs / job_id

    def canonical_link(self, config: str) -> Path:
        """``models/canonical_<config>.safetensors``."""
        return self.models / f"canonical_{config}.safetensors"

    def best_link(self, config: str) -> Path:
        """``models/ringrift_best_<config>.safetensors``."""
        return self.models / f"ringrift_best_{config}.safetensors"

    def resolve(self, path: str | Path) -> Path:
        """Return ``path`` itself when absolute, else below the home (specs name both kinds)."""
        return self.root / path

    def relative(self, path: str | Path) -> str:
        """Return ``path`` relative to the home when it lies inside, else absolute."""
        absolute = Path(path).absolute()
        return str(absolute.relative_to(self.root) if absolute.is_relative_to(self.root) else absolute)

    def ensure(self) -> Home:
        """Make every folder and return the home. Raises :class:`HomeNotWritableError`."""
        folders = (
            self.config, self.games, self.training, self.parity, self.models, self.store,
            self.jobs, self.logs, self.airflow, self.numba,
        )  # fmt: skip
        for folder in folders:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise HomeNotWritableError(
                    f"cannot make {folder}: {error.strerror or error}; set {HOME_VARIABLE} to a folder you may write"
                ) from error
        return self


def project_folder() -> Path:
    """Return the checkout this package lies in, else the current folder."""
    parent = Path(__file__).resolve().parent.parent
    return parent if (parent / "pyproject.toml").exists() or (parent / ".git").exists() else Path.cwd()
