"""``config/pipeline_config.yaml``, in the runbook's own form (R67): what the phases do where nobody says otherwise.

``config/settings.yaml`` goes over it, because that can say things of one config or one profile.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ringrift_ops.settings.strict_yaml import YamlError, YamlFile

Board = Literal["square8", "square19", "hex8", "hexagonal"]


class PipelineFileError(YamlError):
    """``config/pipeline_config.yaml`` says something that is not a setting of the pipeline."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SelfplayDefaults(_Section):
    games_per_worker: int | None = Field(
        default=None, gt=0, le=1_000_000, description="games of one part of `ringrift pipeline run canonical_selfplay`"
    )
    max_moves: int | None = Field(default=None, ge=5, le=1_000_000, description="cap per game, of every config")
    timeout_seconds: int | None = Field(
        default=None, gt=0, le=10_000_000, description="of one attempt at such a part; the next goes on with it"
    )


class ParityDefaults(_Section):
    sample_size: int | None = Field(default=None, ge=0, description="games per database; 0 = all")
    fail_threshold: float | None = Field(default=None, ge=0.0, le=1.0, description="share of failed games allowed")


class ExportDefaults(_Section):
    compression: Literal[True] | None = Field(default=None, description="datasets are always compressed")
    split_ratio: float | None = Field(default=None, gt=0.0, lt=1.0, description="share of games in the training split")


class PipelineFile(_Section):
    """What the file says; None: nothing."""

    default_board: Board | None = None
    selfplay: SelfplayDefaults = SelfplayDefaults()
    parity: ParityDefaults = ParityDefaults()
    export: ExportDefaults = ExportDefaults()

    @classmethod
    def load(cls, path: Path, *, named: bool = False) -> PipelineFile:
        """Return what a file says; nothing when it does not exist, unless somebody has ``named`` it.

        Raises :class:`PipelineFileError`: every mistake with file, line and what is allowed.
        """
        if not path.exists():
            if named:
                raise PipelineFileError(f"{path}: no such file; check the name")
            return cls()
        opened = YamlFile(path, PipelineFileError)
        data = {} if opened.data is None else opened.data
        if not isinstance(data, dict):
            raise opened.fail((), f"a mapping is needed; valid: {', '.join(cls.model_fields)}")
        sections = {name: _section(opened, name, data[name]) for name in _SECTIONS if data.get(name) is not None}
        said = {name: value for name, value in data.items() if name not in _SECTIONS or value is not None}
        return opened.validate(cls, said | sections)

    def profile_keys(self) -> dict[str, Any]:
        """Return what it says of every profile, by the names of ``ProfileRow``."""
        said = {
            "parity_sample": self.parity.sample_size,
            "parity_fail_threshold": self.parity.fail_threshold,
            "split_ratio": self.export.split_ratio,
        }
        return {name: value for name, value in said.items() if value is not None}


_SECTIONS: dict[str, type[_Section]] = {
    "selfplay": SelfplayDefaults,
    "parity": ParityDefaults,
    "export": ExportDefaults,
}


def _section(opened: YamlFile, name: str, data: object) -> _Section:
    if not isinstance(data, dict):
        raise opened.fail((name,), f"{name} must map keys to values; valid: {', '.join(_SECTIONS[name].model_fields)}")
    return opened.validate(_SECTIONS[name], data, (name,))
