"""The HTTP door, mounted by the plugin at ``/ringrift`` of Airflow's API server: routes that call ``operations/``."""
