"""The DAGs of RingRift: one per config, from the settings table, and those for outside nets, datasets and alerts."""

from airflow.sdk import get_parsing_context

from ringrift_ops.airflow.factory import (
    ALERTS_DAG,
    CANDIDATES,
    DATA_VALIDATION,
    build,
    build_alerts,
    build_candidates,
    build_data_validation,
)
from ringrift_ops.settings import Settings

settings = Settings.load()
only = get_parsing_context().dag_id  # a task process needs its own DAG and no other

for config in settings.configs.values():
    if only in (None, config.key):
        globals()[config.key] = build(settings, config)

if only in (None, CANDIDATES):
    globals()[CANDIDATES] = build_candidates(settings)

if only in (None, DATA_VALIDATION):
    globals()[DATA_VALIDATION] = build_data_validation(settings)

if only in (None, ALERTS_DAG):
    globals()[ALERTS_DAG] = build_alerts()
