"""The DAGs of RingRift: one per config from the settings table, one per host of role edge, and their caretakers."""

from airflow.sdk import get_parsing_context

from ringrift_ops.airflow.edge import build_edge, dag_of
from ringrift_ops.airflow.factory import build, caretakers
from ringrift_ops.home import Home
from ringrift_ops.settings import Inventory, Settings

settings = Settings.load()
inventory = Inventory.load(Home(settings.home))
only = get_parsing_context().dag_id  # a task process needs its own DAG and no other

for config in settings.configs.values():
    if only in (None, config.key):
        globals()[config.key] = build(settings, config)

for name, make in caretakers(settings, inventory).items():
    if only in (None, name):
        globals()[name] = make()

if only is None:  # its tasks run where the worker has a DAG file of its own
    for host in inventory.reached_by(ssh=False):
        globals()[dag_of(host)] = build_edge(host, inventory.host(host).max_parallel_jobs + 4)
