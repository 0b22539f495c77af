# The image of every Airflow component and of the worker. Built and run by docker-compose.yaml.
#   docker compose build                                              CPU
#   docker compose build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130   a GPU host
FROM python:3.11-slim-bookworm

RUN apt-get update \
    && apt-get install -y --no-install-recommends libpq5 make openssh-client procps rsync tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 50000 --create-home ringrift

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /opt/ringrift
COPY requirements.txt requirements-compose.txt ./
RUN pip install --no-cache-dir --extra-index-url "$TORCH_INDEX" -r requirements-compose.txt

COPY pyproject.toml README.md LICENSE ./
COPY ringrift_ops ringrift_ops
COPY dags dags
COPY plugins plugins
RUN pip install --no-cache-dir --no-deps --no-build-isolation --editable .

# Compiled here once; the folder is named by a hash of the sources, so a newer image never meets older code.
ENV RINGRIFT_NUMBA_CACHE=/opt/ringrift/numba \
    RINGRIFT_HOME=/var/lib/ringrift \
    AIRFLOW_HOME=/var/lib/ringrift/airflow \
    PYTHONUNBUFFERED=1
RUN ringrift rules compile \
    && mkdir -p "$AIRFLOW_HOME" \
    && chown -R ringrift: "$RINGRIFT_HOME" "$RINGRIFT_NUMBA_CACHE"

USER ringrift
VOLUME ["/var/lib/ringrift"]
ENTRYPOINT ["tini", "-g", "--"]
CMD ["ringrift", "--help"]
