"""RingRift Ops: trains nets for the board game RingRift, one generation per Airflow run."""

__version__ = "0.1.0"
