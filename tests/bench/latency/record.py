"""`python -m tests.bench.latency.record`: measures SmolLM2's steps on this machine, for the virtual bench.

The daemon's own calibration, with more time, and how far steps scatter around their median. To be run in quiet: what
neighbours do is no part of a device.
"""

from __future__ import annotations

import json
import math
import tempfile
from dataclasses import asdict
from pathlib import Path
from statistics import median

from bise_daemon.config.daemon import DaemonConfig
from bise_daemon.cost.calibration import calibrate
from bise_daemon.engine.loop import clock_ms
from bise_daemon.engine.session import Session
from bise_daemon.models.model import load_model
from bise_export.pipeline import ExportOptions

from .. import models
from ..rounds import machine
from .virtual import RECORDED, SLOTS

_BUDGET_MS = 20_000.0
_SCATTER_STEPS = 300
_SCATTER_CHUNK = 32


def main() -> None:
    """Writes the committed file."""
    bundle = models.bundle(ExportOptions(precision="int4"))
    with tempfile.TemporaryDirectory() as state:
        model = load_model(DaemonConfig(bundle=bundle, slots=SLOTS, state_dir=Path(state)))
    context_tokens = model.limits.context_tokens
    curve = calibrate(
        model.session,
        model.cache,
        context_tokens=context_tokens,
        slots=SLOTS,
        clock=clock_ms,
        budget_ms=_BUDGET_MS,
    )
    recorded = {
        "what": "what steps of SmolLM2 take in quiet, by the daemon's calibration with 20 s, and their scatter",
        "curve": asdict(curve),
        "sigma": _scatter(model.session),
        "machine": machine() | {"bundle": bundle.name, "prompt_attention": model.bundle.graph.prompt_attention},
    }
    RECORDED.write_text(json.dumps(recorded, indent=1) + "\n", encoding="utf-8")


def _scatter(session: Session) -> float:
    """Of the logarithm of step times, tokens and chunks together: half of what lies between 16 % and 84 %."""
    errors: list[float] = []
    for run in (
        lambda: session.decode(0, [0, 0], [1, 1]),
        lambda: session.prefill(0, 0, [0] * _SCATTER_CHUNK, samples=False),
    ):
        times_ms = []
        for _ in range(_SCATTER_STEPS):
            began_ms = clock_ms()
            run()
            times_ms.append(clock_ms() - began_ms)
        errors += [math.log(time_ms / median(times_ms)) for time_ms in times_ms]
    errors.sort()
    return (errors[int(0.84 * len(errors))] - errors[int(0.16 * len(errors))]) / 2


if __name__ == "__main__":
    main()
