"""The figures of docs/bench.md: ``python -m tests.bench``."""
