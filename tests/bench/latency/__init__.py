"""Budgets under load: bise beside llama-server on one arrival trace (`python -m tests.bench.latency`)."""
