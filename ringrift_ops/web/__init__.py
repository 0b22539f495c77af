"""What is served over HTTP: our door below `/ringrift` of Airflow's API server, and the exchange with Edge hosts."""
