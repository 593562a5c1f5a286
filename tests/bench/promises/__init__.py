"""What bise promises beside throughput, each measured on a real daemon: `python -m tests.bench promises`."""
