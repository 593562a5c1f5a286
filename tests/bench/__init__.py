"""Measurements anyone can repeat: `make bench`, or `python -m tests.bench NAME …`."""
