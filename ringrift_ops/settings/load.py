"""The one settings object: packaged tables, then ``config/settings.yaml``, then the environment."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from ringrift_ops.errors import SettingsWarning, UsageError
from ringrift_ops.home import Home
from ringrift_ops.settings.names import config_named, nearest, profile_named
from ringrift_ops.settings.pipeline_file import PipelineFile
from ringrift_ops.settings.strict_yaml import YamlError, YamlFile
from ringrift_ops.settings.tables import (
    CONFIGS,
    PROFILES,
    SIZES,
    ConfigRow,
    GateThresholds,
    ProfileRow,
    packaged_profile,
)
from ringrift_ops.settings.watching import LEVELS

PREFIX = "RINGRIFT_"
PROFILE_VARIABLE = PREFIX + "PROFILE"
PIPELINE_VARIABLE = PREFIX + "PIPELINE_CONFIG"
_THRESHOLD_VARIABLES = {
    "random": "PROMOTION_RANDOM_WIN_RATE",
    "heuristic": "PROMOTION_HEURISTIC_WIN_RATE",
    "previous": "PROMOTION_VS_PREVIOUS_WIN_RATE",
}


class SettingsFileError(YamlError):
    """``config/settings.yaml`` says something that is not a setting."""


class VariableError(UsageError):
    """An environment variable of ours has a value that cannot be used."""


class Environment(BaseSettings):
    """The environment variables that are settings, each named ``RINGRIFT_`` + the field in capitals.

    The three win rates hold for every config; ``RINGRIFT_PROMOTION_RANDOM_WIN_RATE_HEX8_3P`` and
    its like hold for one and win over the general one.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True)

    ledger_url: str | None = None
    ledger_password_file: Path | None = None
    airflow_url: str | None = None
    airflow_password_file: Path | None = None
    training_queue: str | None = None
    profile: str | None = None
    pipeline_config: Path | None = None
    auto_promote: bool | None = None
    gauntlet_games: int | None = Field(default=None, gt=0)
    distribution_timeout: int | None = Field(default=None, gt=0)
    skip_parity: bool | None = None
    skip_gauntlet: bool | None = None
    waiver_reason: str | None = None
    notify: str | None = None
    http_rate: int | None = Field(default=None, gt=0)
    http_open_metrics: bool | None = None
    promotion_random_win_rate: float | None = Field(default=None, gt=0.0, lt=1.0)
    promotion_heuristic_win_rate: float | None = Field(default=None, gt=0.0, lt=1.0)
    promotion_vs_previous_win_rate: float | None = Field(default=None, gt=0.0, lt=1.0)

    @classmethod
    def read(cls) -> Self:
        """Return what the process environment says; raises :class:`VariableError`."""
        _refuse_misspelt()
        try:
            return cls()
        except ValidationError as problem:
            lines = [
                f"{PREFIX}{str(one['loc'][0]).upper()}: {one['msg']} (given: {one['input']!r})"
                for one in problem.errors(include_url=False)
            ]
            raise VariableError("\n".join(lines)) from problem


def _refuse_misspelt() -> None:
    """Raise :class:`VariableError` for a promotion variable that nothing would read."""
    general = [PREFIX + name for name in _THRESHOLD_VARIABLES.values()]
    known = {*general, *(f"{name}_{key.upper()}" for name in general for key in CONFIGS)}
    for name in os.environ:
        if name.startswith(f"{PREFIX}PROMOTION_") and name not in known:
            raise VariableError(
                f"unknown variable {name}; {nearest(name, general)}; of one config only: "
                f"the same followed by its key, such as {general[0]}_HEX8_2P"
            )


class _File(BaseModel):
    """The keys of ``settings.yaml``; rows are partial and go over the packaged ones."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    profile: str = "quick"
    ledger_url: str | None = None
    auto_promote: bool = True
    gauntlet_games: int | None = Field(default=None, gt=0)
    distribution_timeout: int = Field(default=300, gt=0)
    destinations: list[str] = []
    notify: list[str] = []
    notify_levels: dict[int, list[str]] = {}
    http_rate: int = Field(default=600, gt=0)
    http_open_metrics: bool = False
    configs: dict[str, dict[str, Any]] = {}
    profiles: dict[str, dict[str, Any]] = {}


class Settings(BaseModel):
    """What is in force, and nothing else. Made by :meth:`load`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    home: Path
    ledger_url: str = Field(description="SQLAlchemy URL of the ledger")
    airflow_url: str | None = Field(description="address of an Airflow that others keep (production)")
    airflow_password_file: Path | None = Field(description="file with the password of its user admin")
    training_queue: str | None = Field(description="Airflow queue of trainings; None = the queue of everything else")
    default_profile: str
    auto_promote: bool = Field(description="whether a PASS moves the canonical pointer by itself")
    distribution_timeout: int = Field(description="seconds for all destinations of one net")
    skip_parity: bool = Field(description="export games that parity has not passed, under a recorded waiver (R14)")
    skip_gauntlet: bool = Field(description="promote without a gauntlet, under a recorded waiver (R48)")
    waiver_reason: str = Field(description="why; a waiver without one is refused")
    destinations: list[str] = Field(description="folders that promoted nets are delivered to")
    notify: list[str] = Field(
        default=[], repr=False, description="Apprise URLs that are told of every incident, besides logs/alerts.log"
    )
    notify_levels: dict[int, list[str]] = Field(
        default={}, repr=False, description="Apprise URLs that are told from that level of escalation on"
    )
    pipeline: PipelineFile = Field(description="what `config/pipeline_config.yaml` says")
    http_rate: int = Field(description="requests per minute that the HTTP door takes from one user")
    http_open_metrics: bool = Field(description="whether /ringrift/metrics answers without a login")
    configs: dict[str, ConfigRow]
    profiles: dict[str, dict[str, ProfileRow]] = Field(description="by profile, then by config")

    @classmethod
    def load(cls, home: Home | None = None) -> Settings:
        """Return the settings of ``home`` (default: :meth:`Home.find`); each of its warnings is a ``SettingsWarning``.

        Raises :class:`SettingsFileError` and ``PipelineFileError`` (file, line, nearest valid names),
        :class:`VariableError`.
        """
        place = home or Home.find()
        environment = Environment.read()
        path = place.settings_file
        opened = YamlFile(path, SettingsFileError) if path.exists() else None
        file = _File() if opened is None else opened.validate(_File, {} if opened.data is None else opened.data)
        _check_names(file, opened)
        pipeline = PipelineFile.load(
            environment.pipeline_config or place.pipeline_file, named=environment.pipeline_config is not None
        )
        games = environment.gauntlet_games or file.gauntlet_games
        settings = cls(
            home=place.root,
            ledger_url=_with_password(
                environment.ledger_url or file.ledger_url or place.ledger_url, environment.ledger_password_file
            ),
            airflow_url=environment.airflow_url,
            airflow_password_file=environment.airflow_password_file,
            training_queue=environment.training_queue,
            default_profile=profile_named(environment.profile or file.profile),
            auto_promote=file.auto_promote if environment.auto_promote is None else environment.auto_promote,
            distribution_timeout=environment.distribution_timeout or file.distribution_timeout,
            skip_parity=bool(environment.skip_parity),
            skip_gauntlet=bool(environment.skip_gauntlet),
            waiver_reason=(environment.waiver_reason or "").strip(),
            destinations=[str(place.resolve(folder)) for folder in file.destinations],
            notify=(environment.notify or "").split() or file.notify,
            notify_levels=file.notify_levels,
            http_rate=environment.http_rate or file.http_rate,
            http_open_metrics=(
                file.http_open_metrics if environment.http_open_metrics is None else environment.http_open_metrics
            ),
            pipeline=pipeline,
            configs={key: _config(_capped(row, pipeline), file, opened, environment) for key, row in CONFIGS.items()},
            profiles={
                name: {key: _profile(name, CONFIGS[key], pipeline, file, opened, games) for key in CONFIGS}
                for name in PROFILES
            },
        )
        for said in settings.warnings:
            warnings.warn(said, SettingsWarning, stacklevel=2)
        return settings

    def config(self, key: str) -> ConfigRow:
        """Return the row of a config; raises ``UnknownConfigError``."""
        return self.configs[config_named(key).key]

    def profile(self, config: str, name: str | None = None) -> ProfileRow:
        """Return how much of everything ``config`` gets under profile ``name`` (default: the one in force).

        Raises ``UnknownConfigError``, ``UnknownProfileError``.
        """
        return self.profiles[profile_named(name or self.default_profile)][config_named(config).key]

    @property
    def warnings(self) -> list[str]:
        """What is allowed but likely a mistake: caps that cut games short (R67), parity that lets games pass."""
        low: dict[int, list[ConfigRow]] = {}
        for row in self.configs.values():
            if row.max_moves < CONFIGS[row.key].max_moves:
                low.setdefault(row.max_moves, []).append(row)
        return [*(_cuts(cap, rows) for cap, rows in low.items()), *self._lenient()]

    def _lenient(self) -> list[str]:
        said: dict[str, list[str]] = {}
        for key, row in self.profiles[self.default_profile].items():
            if row.parity_fail_threshold > 0.0:
                what = f"parity.fail_threshold {row.parity_fail_threshold:g} lets games pass that the engines differ on"
                said.setdefault(f"{what}; canonical data wants 0", []).append(key)
            if row.parity_sample > 0:
                what = f"parity.sample_size {row.parity_sample} leaves games unchecked; 0 = all"
                said.setdefault(what, []).append(key)
        return [f"{_listed(keys)}: {what}" for what, keys in said.items()]

    def gate(self, config: str) -> GateThresholds:
        """Return the thresholds of a config; ``.version`` is what an evaluation stores."""
        return self.config(config).gate


def _listed(keys: list[str]) -> str:
    return "all configs" if len(keys) == len(CONFIGS) else ", ".join(keys)


def _cuts(cap: int, rows: list[ConfigRow]) -> str:
    longest, packaged = [row.longest_game for row in rows], [CONFIGS[row.key].max_moves for row in rows]
    return (
        f"{_listed([row.key for row in rows])}: max_moves {cap} cuts games short: recorded games go up to "
        f"{_span(longest)} moves, the packaged cap is {_span(packaged)}"
    )


def _span(numbers: list[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{min(numbers)} to {max(numbers)}"


def _capped(row: ConfigRow, pipeline: PipelineFile) -> ConfigRow:
    cap = pipeline.selfplay.max_moves
    return row if cap is None else row.model_copy(update={"max_moves": cap})


def _with_password(url: str, path: Path | None) -> str:
    """Return the ledger's URL with the password of a file; raises :class:`VariableError`."""
    if path is None:
        return url
    name = f"{PREFIX}LEDGER_PASSWORD_FILE"
    before, at, after = url.partition("@")
    user = before.rpartition("/")[2]
    if not at or not user or ":" in user:
        raise VariableError(
            f"{name}: the ledger's URL must name a user and no password, as postgresql://USER@HOST/NAME"
        )
    return f"{before}:{quote(secret_in(path, name), safe='')}@{after}"


def secret_in(path: Path, variable: str) -> str:
    """Return what a file with a secret says; raises :class:`VariableError` when it cannot be read or is empty."""
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except OSError as problem:
        raise VariableError(f"{variable}: cannot read {path}: {problem.strerror or problem}") from problem
    if not secret:
        raise VariableError(f"{variable}: {path} is empty")
    return secret


def _check_names(file: _File, opened: YamlFile | None) -> None:
    if opened is None:
        return
    if file.profile not in PROFILES:
        raise opened.fail(("profile",), f"unknown profile {file.profile!r}; {nearest(file.profile, PROFILES)}")
    for level in file.notify_levels:
        if level not in LEVELS:
            raise opened.fail(("notify_levels", level), f"unknown level {level}; valid: {', '.join(map(str, LEVELS))}")
    for key, row in file.configs.items():
        if key not in CONFIGS:
            raise opened.fail(("configs", key), f"unknown config {key!r}; {nearest(key, CONFIGS)}")
        overrides = row.get("profiles") or {}
        if not isinstance(overrides, dict) or not all(isinstance(value, dict) for value in overrides.values()):
            raise opened.fail(("configs", key, "profiles"), "profiles must map a profile to its keys")
        for name in overrides:
            if name not in PROFILES:
                raise opened.fail(("configs", key, "profiles", name), f"unknown profile {name!r}; "
                                  f"{nearest(name, PROFILES)}")  # fmt: skip
    for name in file.profiles:
        if name not in PROFILES:
            raise opened.fail(("profiles", name), f"unknown profile {name!r}; {nearest(name, PROFILES)}")


_FIXED_CONFIG_KEYS = ("key", "board", "players", "longest_game")


def _config(row: ConfigRow, file: _File, opened: YamlFile | None, environment: Environment) -> ConfigRow:
    changes = {key: value for key, value in file.configs.get(row.key, {}).items() if key != "profiles"}
    prefix = ("configs", row.key)
    if opened is not None and changes:
        editable = [key for key in ConfigRow.model_fields if key not in _FIXED_CONFIG_KEYS]
        for key in changes:
            if key in _FIXED_CONFIG_KEYS:
                raise opened.fail((*prefix, key), f"{key!r} is part of the game and cannot be set; "
                                  f"valid: {', '.join([*editable, 'profiles'])}")  # fmt: skip
        gate = changes.pop("gate", None)
        for family, sizes in SIZES.items():
            if isinstance(given := changes.get(family), dict):
                for key in given:
                    if key not in sizes:
                        raise opened.fail((*prefix, family, key), f"unknown key {key!r}; {nearest(str(key), sizes)}")
                changes[family] = {**getattr(row, family), **given}
        row = opened.validate(ConfigRow, row.model_dump() | changes, prefix, [*editable, "profiles"])
        if gate is not None:
            if not isinstance(gate, dict):
                raise opened.fail((*prefix, "gate"), "gate must map an opponent to a win rate")
            known = list(_THRESHOLD_VARIABLES)
            if "overridden" in gate:
                raise opened.fail((*prefix, "gate", "overridden"), f"unknown key 'overridden'; {nearest('', known)}")
            merged = opened.validate(GateThresholds, row.gate.model_dump() | gate, (*prefix, "gate"), known)
            row = row.model_copy(update={"gate": merged})
    packaged = CONFIGS[row.key].gate
    rates = {name: _from_environment(name, row, environment) for name in _THRESHOLD_VARIABLES}
    named = tuple(f"{name}={rate:g}" for name, rate in rates.items() if rate != packaged.against(name))
    return row.model_copy(update={"gate": GateThresholds(**rates, overridden=named)})


def _from_environment(opponent: str, row: ConfigRow, environment: Environment) -> float:
    """Return the threshold in force: of the config's own variable, else the general one, else the row."""
    general = _THRESHOLD_VARIABLES[opponent]
    name = f"{PREFIX}{general}_{row.key.upper()}"
    text = os.environ.get(name, "").strip()
    if text:
        try:
            rate = float(text)
        except ValueError as problem:
            raise VariableError(f"{name}: a win rate between 0 and 1 is needed (given: {text!r})") from problem
        if not 0.0 < rate < 1.0:
            raise VariableError(f"{name}: a win rate between 0 and 1 is needed (given: {text!r})")
        return rate
    everywhere: float | None = getattr(environment, general.lower())
    return row.gate.against(opponent) if everywhere is None else everywhere


def _profile(
    name: str, config: ConfigRow, pipeline: PipelineFile, file: _File, opened: YamlFile | None, games: int | None
) -> ProfileRow:
    row = packaged_profile(name, config).model_copy(update=pipeline.profile_keys())
    keys = [key for key in ProfileRow.model_fields if key != "name"]
    own = (file.configs.get(config.key, {}).get("profiles") or {}).get(name)
    for changes, prefix in (
        (file.profiles.get(name), ("profiles", name)),
        (own, ("configs", config.key, "profiles", name)),
    ):
        if opened is not None and changes:
            if "name" in changes:
                raise opened.fail((*prefix, "name"), f"unknown key 'name'; {nearest('name', keys)}")
            row = opened.validate(ProfileRow, row.model_dump() | changes, prefix, keys)
    return row if games is None else row.model_copy(update={"games_per_look": games})
