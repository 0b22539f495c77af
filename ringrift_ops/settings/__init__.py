"""Every number of policy: one table for the 12 configs, one for the gates, one for the profiles.

``Settings.load()`` puts them together: packaged rows (``tables.py``), then the home's
``config/settings.yaml``, then the environment; the later wins. Import brings in neither torch nor
numba nor Airflow, because DAG files are read every few seconds.
"""

from ringrift_ops.settings.inventory import Host, Inventory, InventoryError, UnknownHostError
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
    GATE,
    GATE_VERSION,
    GPU_BATCH_SIZES,
    HOSTS,
    LEASES,
    PROFILES,
    Checks,
    ConfigRow,
    GateRules,
    GateThresholds,
    HostRules,
    LeaseRules,
    ProfileRow,
    packaged_profile,
)

__all__ = [
    "CHECKS",
    "CONFIGS",
    "GATE",
    "GATE_VERSION",
    "GPU_BATCH_SIZES",
    "HOSTS",
    "LEASES",
    "PROFILES",
    "STAGE_ALIASES",
    "Checks",
    "ConfigRow",
    "Environment",
    "GateRules",
    "GateThresholds",
    "Host",
    "HostRules",
    "Inventory",
    "InventoryError",
    "LeaseRules",
    "ProfileRow",
    "Settings",
    "SettingsFileError",
    "UnknownConfigError",
    "UnknownHostError",
    "UnknownOpponentError",
    "UnknownProfileError",
    "UnknownStageError",
    "VariableError",
    "YamlError",
    "config_key",
    "config_named",
    "opponent_named",
    "packaged_profile",
    "profile_named",
    "read_yaml",
    "stage_named",
]
