"""The process that specialises, as the daemon sees it: heard of while it gets on, and ended when it does not."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
from pathlib import Path

from bise_daemon.loading import Loading
from bise_daemon.state import UnfitError

_MOST_BYTES = 4096
_PROGRESS = re.compile(r"\d+ of \d+")


def pack_apart(model: Path, target: Path, loading: Loading, patience_s: float) -> None:
    """Runs `python -m bise_daemon.specialise`, and ends it when nobody waits for it, or when it gets nowhere.

    Args:
        model: the bundle's graph.
        target: a folder that is there and empty.
        loading: hears of each product.
        patience_s: what one may take.

    Raises:
        LoadingStoppedError: nobody waits for it any more.
        UnfitError: it failed, or made no progress.
    """
    command = [sys.executable, "-m", "bise_daemon.specialise", str(model), str(target)]
    loading.begin("packing weights for this device, once", patience_s)
    with subprocess.Popen(  # noqa: S603 - this very interpreter
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            with loading.ended_by(process.kill):
                said = _follow(process, loading, patience_s)
        finally:
            process.kill()
    loading.advance()
    if process.returncode:
        raise UnfitError(said[-1] if said else f"packing ended with exit code {process.returncode}")


def _follow(process: subprocess.Popen[bytes], loading: Loading, patience_s: float) -> list[str]:
    """Passes progress on until the process ends; returns the last lines of what else it said."""
    assert process.stdout is not None
    said = b""
    while select.select([process.stdout], [], [], patience_s)[0]:
        if not (piece := os.read(process.stdout.fileno(), _MOST_BYTES)):
            process.wait()
            return [line for line in _lines(said) if not _PROGRESS.fullmatch(line)]
        said = (said + piece)[-_MOST_BYTES:]
        if steps := [line for line in _lines(piece) if _PROGRESS.fullmatch(line)]:
            loading.advance(f"packing weights for this device, once: {steps[-1]} products")
    raise UnfitError(f"expected another product packed within {patience_s:.0f} s, got none")


def _lines(said: bytes) -> list[str]:
    return said.decode(errors="replace").strip().splitlines()
