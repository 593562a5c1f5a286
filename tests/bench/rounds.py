"""Interleaved rounds: A B C A B C …, so that a machine whose speed drifts treats all alike."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

_EXTENSIONS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "sve")

Figures = dict[str, list[float]]


def interleave(contenders: Mapping[str, Callable[[], float]], rounds: int) -> Figures:
    """Runs every contender once a round, after one round that does not count; figures by name, a round each."""
    figures: Figures = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, run in contenders.items():
            figure = run()
            if number:
                figures[name].append(figure)
    return figures


def summary(figures: Figures) -> dict[str, dict[str, float]]:
    """Median and spread of each."""
    return {
        name: {"median": statistics.median(values), "min": min(values), "max": max(values)}
        for name, values in figures.items()
    }


def ratio(figures: Figures, over: str, under: str) -> float:
    """Median over rounds of `over` divided by `under`."""
    return statistics.median(a / b for a, b in zip(figures[over], figures[under], strict=True))


def machine(packages: Sequence[str] = ("bise", "onnxruntime", "llama-cpp-python", "numpy")) -> dict[str, Any]:
    """What the figures were taken on, with the versions of `packages`."""
    cpu = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    flags = next((line.split() for line in _lines("/proc/cpuinfo") if line.startswith("flags")), [])
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "vector_extensions": [flag for flag in _EXTENSIONS if flag in flags],
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
