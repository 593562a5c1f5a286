"""What bise promises beside throughput, each measured on a real daemon.

`python -m tests.bench promises` measures all, `python -m tests.bench.promises WORD…` those with a word in their names.
"""
