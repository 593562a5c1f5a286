"""The process that specialises: what it takes goes back to the system with it, and its failure ends nobody else."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from bise_daemon.specialise.writer import write


def main() -> None:
    """`python -m bise_daemon.specialise MODEL.onnx FOLDER`.

    Standard output has a line for each product that is begun, and the last line of standard error says what is wrong.
    """
    parent = os.getppid()
    # Whatever it is given: files that others could write are not used (`state.own_file`).
    os.umask(0o077)
    model, target = map(Path, sys.argv[1:])
    try:
        write(model, target, lambda: os.getppid() == parent, _tell)
    except Exception as error:  # noqa: BLE001 - onnxruntime raises what it likes, and all of it means: not this graph
        raise SystemExit(" ".join(f"{type(error).__name__}: {error}".split())) from None


def _tell(done: int, products: int) -> None:
    print(f"{done} of {products}", flush=True)


if __name__ == "__main__":
    main()
