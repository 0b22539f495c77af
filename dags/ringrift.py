"""The DAGs of RingRift: one per config, from the settings table, and one for nets trained outside a run."""

from airflow.sdk import get_parsing_context

from ringrift_ops.airflow.factory import CANDIDATES, build, build_candidates
from ringrift_ops.settings import Settings

settings = Settings.load()
only = get_parsing_context().dag_id  # a task process needs its own DAG and no other

for config in settings.configs.values():
    if only in (None, config.key):
        globals()[config.key] = build(settings, config)

if only in (None, CANDIDATES):
    globals()[CANDIDATES] = build_candidates(settings)
