"""Every number of policy: one table for the 12 configs, one for the gates, one for the profiles.

``Settings.load()`` puts them together: packaged rows (``tables.py``), then the home's
``config/settings.yaml``, then the environment; the later wins. Import brings in neither torch nor
numba nor Airflow, because DAG files are read every few seconds.
"""

from ringrift_ops.settings.load import Environment, Settings, SettingsFileError, VariableError
from ringrift_ops.settings.names import (
    STAGE_ALIASES,
    UnknownConfigError,
    UnknownOpponentError,
    UnknownProfileError,
    UnknownStageError,
    config_key,
    config_named,
    opponent_named,
    profile_named,
    stage_named,
)
from ringrift_ops.settings.strict_yaml import YamlError, read_yaml
from ringrift_ops.settings.tables import (
    CHECKS,
    CONFIGS,
    DATA,
    GATE,
    GATE_VERSION,
    GPU_BATCHES,
    LEASES,
    OPERATIONS,
    POOLS,
    PROFILES,
    RETENTION,
    Checks,
    ConfigRow,
    DataRules,
    GateRules,
    GateThresholds,
    LeaseRules,
    OperationsRules,
    ProfileRow,
    RetentionRules,
)

__all__ = [
    "CHECKS",
    "CONFIGS",
    "DATA",
    "GATE",
    "GATE_VERSION",
    "GPU_BATCHES",
    "LEASES",
    "OPERATIONS",
    "POOLS",
    "PROFILES",
    "RETENTION",
    "STAGE_ALIASES",
    "Checks",
    "ConfigRow",
    "DataRules",
    "Environment",
    "GateRules",
    "GateThresholds",
    "LeaseRules",
    "OperationsRules",
    "ProfileRow",
    "RetentionRules",
    "Settings",
    "SettingsFileError",
    "UnknownConfigError",
    "UnknownOpponentError",
    "UnknownProfileError",
    "UnknownStageError",
    "VariableError",
    "YamlError",
    "config_key",
    "config_named",
    "opponent_named",
    "profile_named",
    "read_yaml",
    "stage_named",
]
