"""One table per kind of number, and no setting that is silently ignored."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from ringrift_ops.errors import ExitCode, SettingsWarning
from ringrift_ops.home import Home
from ringrift_ops.settings import (
    CONFIGS,
    GATE,
    GATE_VERSION,
    PROFILES,
    PipelineFileError,
    Settings,
    SettingsFileError,
    UnknownConfigError,
    UnknownOpponentError,
    UnknownProfileError,
    UnknownStageError,
    VariableError,
    YamlError,
    config_key,
    config_named,
    opponent_named,
    profile_named,
    read_yaml,
    stage_named,
)
from ringrift_ops.stages.specs import Stage

RUNBOOKS_OWN = """\
# Default board configuration
default_board: square8

# Self-play settings
selfplay:
  games_per_worker: 100
  max_moves: 300
  timeout_seconds: 300

# Parity validation
parity:
  sample_size: 100 # Games to validate (0 = all)
  fail_threshold: 0.01 # Max allowed divergence rate

# NPZ export
export:
  compression: true
  split_ratio: 0.8 # train/val split
"""


def load(home: Path, text: str = "") -> Settings:
    if text:
        (home / "config").mkdir(parents=True, exist_ok=True)
        (home / "config" / "settings.yaml").write_text(text)
    return Settings.load(Home(home))


def test_there_are_twelve_configs_in_one_table() -> None:
    assert len(CONFIGS) == 12
    assert {(row.board, row.players) for row in CONFIGS.values()} == {
        (board, players) for board in ("square8", "square19", "hex8", "hexagonal") for players in (2, 3, 4)
    }
    assert all(
        key == f"{row.board}_{row.players}p" == config_key(row.board, row.players) for key, row in CONFIGS.items()
    )


def test_R47_the_packaged_thresholds_are_the_runbooks() -> None:
    for row in CONFIGS.values():
        gate = row.gate
        expected = {2: (0.85, 0.60, 1 / 2), 3: (0.74, 0.43, 1 / 3), 4: (0.65, 0.33, 1 / 4)}[row.players]
        assert (gate.random, gate.heuristic, gate.previous) == expected
        assert gate.version == GATE_VERSION


def test_R67_the_move_cap_is_the_longest_recorded_game_and_half_as_much_again() -> None:
    caps = {key: row.max_moves for key, row in CONFIGS.items()}
    assert caps["square8_2p"] == 408
    assert caps["hex8_2p"] == 425
    assert caps["hexagonal_4p"] == 2535
    assert all(cap >= row.longest_game * 1.5 for cap, row in zip(caps.values(), CONFIGS.values(), strict=True))


def test_no_two_configs_start_at_the_same_minute() -> None:
    assert len({row.cron for row in CONFIGS.values()}) == 12


def test_only_standard_ticks_and_only_tiny_cannot_reach_a_verdict() -> None:
    settings = Settings.load()
    assert [name for name, row in PROFILES.items() if row.schedule_ticks] == ["standard"]
    for key in CONFIGS:
        tiny, quick, standard = (settings.profile(key, name) for name in ("tiny", "quick", "standard"))
        assert max(tiny.cap, tiny.cap_previous) < GATE.minimum_games
        most = {2: 1_000, 3: 1_400, 4: 1_600}[CONFIGS[key].players]
        assert (quick.cap, quick.cap_previous) == (standard.cap, standard.cap_previous) == (400, most)
        assert quick.games_per_look == standard.games_per_look == 50
        assert (tiny.cooldown_seconds, quick.cooldown_seconds, standard.cooldown_seconds) == (0, 0, 300)
        assert (tiny.family, quick.family, standard.family) == ("sparse", "sparse", "convolutional")


def test_the_window_equals_its_minimum_there_and_grows_with_slope_g() -> None:
    row = PROFILES["quick"]
    m = row.window_minimum_rows
    assert row.window(m // 2) == m // 2
    assert row.window(m) == m
    assert row.window(m + 10_000) == pytest.approx(m + 0.4 * 10_000, rel=0.01)
    assert row.window(100 * m) < 100 * m


def test_the_runbooks_names_of_stages_are_accepted() -> None:
    aliases = {
        "evaluate": "gauntlet", "evaluation": "gauntlet", "canonical_selfplay": "selfplay",
        "parity_validation": "parity", "npz_export": "export", "export_action": "export",
    }  # fmt: skip
    for name, stage in aliases.items() | {(stage.value, stage.value) for stage in Stage}:
        assert stage_named(name) is Stage(stage)


def test_an_unknown_name_is_refused_with_the_valid_ones() -> None:
    with pytest.raises(UnknownConfigError, match=r"'hex8_5p'; did you mean hex8_.*valid: square8_2p, ") as refused:
        config_named("hex8_5p")
    assert refused.value.exit_code is ExitCode.WRONG_USAGE
    with pytest.raises(UnknownConfigError, match="hex9_2p"):
        config_key("hex9", 2)
    with pytest.raises(UnknownStageError, match=r"did you mean train\?.*aliases: evaluate"):
        stage_named("trian")
    with pytest.raises(UnknownProfileError, match="valid: tiny, quick, standard"):
        profile_named("fast")
    with pytest.raises(UnknownOpponentError, match="valid: random, heuristic, previous"):
        opponent_named("champion")
    settings = Settings.load()
    with pytest.raises(UnknownConfigError):
        settings.config("hex8")
    with pytest.raises(UnknownProfileError):
        settings.profile("hex8_2p", "huge")


def test_without_a_file_the_packaged_rows_are_in_force(home: Path) -> None:
    settings = load(home)
    assert settings.configs == CONFIGS
    assert settings.profile("hex8_2p") == PROFILES["quick"]
    assert settings.profile("hexagonal_2p", "tiny").first_games < PROFILES["tiny"].first_games
    assert settings.ledger_url == f"sqlite:///{home}/ledger.db"
    assert settings.auto_promote
    assert settings.warnings == []


def test_the_file_goes_over_the_tables_per_profile_and_per_config(home: Path) -> None:
    settings = load(
        home,
        """
profile: tiny
auto_promote: false
destinations: [elsewhere, /abs]
profiles:
  quick: {epochs: 9}
configs:
  hex8_2p:
    max_moves: 300
    gate: {random: 0.9}
    profiles:
      quick: {epochs: 11, games: 77}
""",
    )
    assert settings.default_profile == "tiny"
    assert not settings.auto_promote
    assert settings.destinations == [f"{home}/elsewhere", "/abs"]
    assert settings.profile("square8_2p", "quick").epochs == 9
    assert (settings.profile("hex8_2p", "quick").epochs, settings.profile("hex8_2p", "quick").games) == (11, 77)
    assert settings.gate("hex8_2p").random == 0.9
    assert settings.gate("square8_2p").random == 0.85
    assert len(settings.warnings) == 1
    assert "hex8_2p: max_moves 300 cuts games short" in settings.warnings[0]


def test_R67_pipeline_config_goes_under_the_settings_file_and_its_doubts_are_told(home: Path) -> None:
    file = Home(home).ensure().pipeline_file
    file.write_text(RUNBOOKS_OWN)
    with pytest.warns(SettingsWarning) as told:
        settings = load(home, "configs: {hex8_2p: {max_moves: 500}}\nprofiles: {tiny: {split_ratio: 0.7}}")
    assert (settings.config("hex8_2p").max_moves, settings.config("square19_4p").max_moves) == (500, 300)
    assert (settings.profile("hex8_2p", "tiny").split_ratio, settings.profile("hex8_2p").split_ratio) == (0.7, 0.8)
    assert (settings.profile("hex8_2p").parity_sample, settings.profile("hex8_2p").parity_fail_threshold) == (100, 0.01)
    said = settings.pipeline
    assert (said.default_board, said.selfplay.games_per_worker, said.selfplay.timeout_seconds) == ("square8", 100, 300)
    assert [str(one.message) for one in told] == settings.warnings
    cap, threshold, sample = settings.warnings
    assert "hex8_3p" in cap
    assert "hex8_2p" not in cap
    assert "max_moves 300 cuts games short: recorded games go up to 272 to 1690 moves" in cap
    assert "fail_threshold 0.01" in threshold
    assert "sample_size 100" in sample


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("default_board: chess", 1, "default_board"),
        ("selfplay:\n  max_moves: 300\n  games: 3", 3, "unknown key 'games' under selfplay; valid: games_per_worker"),
        ("parity:\n  fail_treshold: 0.1", 2, "did you mean fail_threshold"),
        ("export: {compression: false}", 1, "compression"),
        ("\nplay: {}", 2, "valid: default_board, selfplay, parity, export"),
        ("export: 3", 1, "export must map keys to values; valid: compression, split_ratio"),
        ("selfplay:\n  max_moves: 4", 2, "greater than or equal to 5"),
    ],
)
def test_R67_what_pipeline_config_may_not_say_is_refused_with_file_and_line(
    home: Path, text: str, line: int, said: str
) -> None:
    file = Home(home).ensure().pipeline_file
    file.write_text(text)
    with pytest.raises(PipelineFileError, match=re.escape(f"{file} line {line}: ")) as refused:
        Settings.load()
    assert said in str(refused.value)


def test_F12_a_gate_that_is_not_the_tables_says_so_in_its_version(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGRIFT_PROMOTION_HEURISTIC_WIN_RATE", "0.55")
    settings = load(home, "configs: {hex8_2p: {gate: {random: 0.8}}}")
    assert settings.gate("hex8_2p").version == f"{GATE_VERSION}+random=0.8+heuristic=0.55"
    assert settings.gate("hex8_3p").version == f"{GATE_VERSION}+heuristic=0.55"


def test_R47_the_promotion_variables_are_honoured_the_configs_own_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGRIFT_PROMOTION_RANDOM_WIN_RATE", "0.9")
    monkeypatch.setenv("RINGRIFT_PROMOTION_VS_PREVIOUS_WIN_RATE", "0.52")
    monkeypatch.setenv("RINGRIFT_PROMOTION_RANDOM_WIN_RATE_HEX8_3P", "0.7")
    settings = Settings.load()
    assert settings.gate("hex8_2p").random == 0.9
    assert settings.gate("hex8_3p").random == 0.7
    assert settings.gate("hex8_2p").previous == 0.52


def test_the_other_variables_are_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AUTO_PROMOTE": "false", "GAUNTLET_GAMES": "80", "DISTRIBUTION_TIMEOUT": "60", "PROFILE": "standard",
        "LEDGER_URL": "postgresql://db/ringrift",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"RINGRIFT_{name}", value)
    settings = Settings.load()
    assert (settings.auto_promote, settings.distribution_timeout) == (False, 60)
    assert settings.profile("hex8_2p").name == "standard"
    assert settings.profile("hex8_2p").games_per_look == 80
    assert settings.ledger_url == "postgresql://db/ringrift"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RINGRIFT_PROMOTION_RANDOM_WIN_RATE", "85"),
        ("RINGRIFT_PROMOTION_RANDOM_WIN_RATE_HEX8_2P", "x"),
        ("RINGRIFT_PROMOTION_RANDOM_WIN_RATE_HEX8_2P", "85"),
        ("RINGRIFT_AUTO_PROMOTE", "perhaps"),
        ("RINGRIFT_GAUNTLET_GAMES", "0"),
    ],
)
def test_an_impossible_variable_is_refused_by_name(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(VariableError, match=rf"{name}: .*given: '{value}'"):
        Settings.load()


def test_a_misspelt_promotion_variable_is_not_silently_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGRIFT_PROMOTION_RANDOM_WINRATE", "0.9")
    with pytest.raises(VariableError, match="did you mean RINGRIFT_PROMOTION_RANDOM_WIN_RATE"):
        Settings.load()


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("profile: quick\nprofil: tiny\n", 2, "unknown key 'profil'; did you mean profile"),
        ("profiles:\n  quick:\n    epochs: 3\n    epoch: 3\n", 4, "'epoch' under profiles.quick; did you mean epochs"),
        ("profiles:\n  quick:\n    epochs: -1\n", 3, "epochs under profiles.quick: Input should be greater than 0"),
        ("profiles:\n  quik: {epochs: 1}\n", 2, "unknown profile 'quik'; did you mean quick"),
        ("configs:\n  hex8_5p: {}\n", 2, "unknown config 'hex8_5p'"),
        ("configs:\n  hex8_2p:\n    gates: {}\n", 3, "unknown key 'gates' under configs.hex8_2p; did you mean gate"),
        ("configs:\n  hex8_2p:\n    gate: {randm: 0.9}\n", 3, "'randm' under configs.hex8_2p.gate; did you mean"),
        ("configs:\n  hex8_2p:\n    players: 3\n", 3, "'players' is part of the game and cannot be set"),
        ("configs:\n  hex8_2p:\n    profiles:\n      quick:\n        gams: 1\n", 5, "did you mean games"),
        ("configs:\n  hex8_2p:\n    profiles:\n      fast: {}\n", 4, "unknown profile 'fast'"),
        ("profile: fast\n", 1, "unknown profile 'fast'; valid: tiny, quick, standard"),
        ("profile: tiny\nprofile: quick\n", 2, "key 'profile' stands already in line 1"),
        ("profile: [\n", 2, "not valid YAML"),
        ("- a\n", 1, "valid dictionary"),
        ("configs:\n  hex8_2p:\n    sparse: {hiden: 32}\n", 3, "unknown key 'hiden'; did you mean hidden"),
        ("configs:\n  hex8_2p:\n    cron: now and then\n", 3, "cron under configs.hex8_2p: String should match"),
        ("destinations:\n  - a\n  - {}\n", 3, "valid string"),
    ],
)  # fmt: skip
def test_R67_a_mistake_in_the_file_comes_with_its_line(home: Path, text: str, line: int, message: str) -> None:
    with pytest.raises(SettingsFileError, match=re.escape(message)) as refused:
        load(home, text)
    assert f"settings.yaml line {line}: " in str(refused.value)
    assert refused.value.exit_code is ExitCode.WRONG_USAGE


def test_one_size_of_a_net_leaves_its_others_as_they_are(home: Path) -> None:
    row = load(home, "configs:\n  hex8_2p:\n    sparse: {hidden: 32}\n").config("hex8_2p")
    assert row.sparse == {"hidden": 32, "dense": CONFIGS["hex8_2p"].sparse["dense"]}


def test_a_file_that_contains_itself_is_no_settings_file(home: Path) -> None:
    with pytest.raises(SettingsFileError, match="not valid YAML"):
        load(home, "destinations: &all [*all]\n")


def test_R67_all_mistakes_of_a_row_are_told_at_once_in_order(home: Path) -> None:
    with pytest.raises(SettingsFileError) as refused:
        load(home, "profiles:\n  quick:\n    epoch: 3\n    batch_size: 0\n    familly: sparse\n")
    assert re.findall(r"line (\d+)", str(refused.value)) == ["3", "4", "5"]


def test_R67_other_files_are_read_as_strictly(tmp_path: Path) -> None:
    from ringrift_ops.settings.tables import GateThresholds

    path = tmp_path / "gate.yaml"
    path.write_text("random: 0.8\nheuristic: 0.6\nprevious: 2\n")
    with pytest.raises(YamlError, match=r"gate\.yaml line 3: previous"):
        read_yaml(path, GateThresholds)
    with pytest.raises(YamlError, match="cannot be read"):
        read_yaml(tmp_path / "none.yaml", GateThresholds)
    packaged = GateThresholds(random=0.8, heuristic=0.6, previous=0.5)
    assert read_yaml(tmp_path / "none.yaml", GateThresholds, default=lambda: packaged) is packaged


def test_rows_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        CONFIGS["hex8_2p"].max_moves = 1  # type: ignore[misc]


def test_importing_the_settings_brings_in_no_heavy_module() -> None:
    script = "import sys, ringrift_ops.settings; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    assert not {"torch", "numba", "airflow", "numpy", "sqlalchemy", "yaml"} & set(loaded)


def test_the_ledgers_password_comes_from_a_file_that_no_listing_shows(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("pa@ss/word\n")
    monkeypatch.setenv("RINGRIFT_LEDGER_URL", "postgresql://airflow@db/ringrift")
    monkeypatch.setenv("RINGRIFT_LEDGER_PASSWORD_FILE", str(secret))
    assert Settings.load().ledger_url == "postgresql://airflow:pa%40ss%2Fword@db/ringrift"
    for url in ("postgresql://airflow:known@db/ringrift", "postgresql://db/ringrift"):
        monkeypatch.setenv("RINGRIFT_LEDGER_URL", url)
        with pytest.raises(VariableError, match="must name a user and no password"):
            Settings.load()
    monkeypatch.setenv("RINGRIFT_LEDGER_URL", "postgresql://airflow@db/ringrift")
    secret.write_text("\n")
    with pytest.raises(VariableError, match="is empty"):
        Settings.load()
    secret.unlink()
    with pytest.raises(VariableError, match="cannot read"):
        Settings.load()
