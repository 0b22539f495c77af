"""Production without a container engine: the services of docker-compose.yaml, run by the file itself."""
