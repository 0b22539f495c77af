"""What is served over HTTP beside Airflow itself."""
