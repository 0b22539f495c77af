"""What is served over HTTP: our door below `/ringrift` of Airflow's API server, and the exchange with Edge hosts."""

AIRFLOW = "ringrift.airflow"
"""Where a request keeps Airflow's own app, which ours hides."""
