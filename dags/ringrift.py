"""The DAGs of RingRift: one per config, from the settings table; for nets from outside, datasets and remedies."""

from airflow.sdk import get_parsing_context

from ringrift_ops.airflow.factory import (
    CANDIDATES,
    DATA_VALIDATION,
    REMEDIES_DAG,
    build,
    build_candidates,
    build_data_validation,
    build_remedies,
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

if only in (None, REMEDIES_DAG):
    globals()[REMEDIES_DAG] = build_remedies(settings)
