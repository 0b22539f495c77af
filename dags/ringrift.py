"""The DAGs of RingRift: one per config from the settings table, one per host of role edge, and those that look after
nets from outside, datasets and alerts.
"""

from airflow.sdk import get_parsing_context

from ringrift_ops.airflow.edge import build_edge, dag_of
from ringrift_ops.airflow.factory import (
    ALERTS_DAG,
    CANDIDATES,
    DATA_VALIDATION,
    build,
    build_alerts,
    build_candidates,
    build_data_validation,
)
from ringrift_ops.home import Home
from ringrift_ops.settings import Inventory, Settings

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

if only is None:  # its tasks run where the worker has a DAG file of its own
    inventory = Inventory.load(Home(settings.home))
    for host in inventory.reached_by(ssh=False):
        globals()[dag_of(host)] = build_edge(host, inventory.host(host).max_parallel_jobs + 4)
