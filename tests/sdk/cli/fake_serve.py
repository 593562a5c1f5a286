"""Stands in for `bise serve` in a process of its own: takes its arguments, answers as a FakeDaemon does.

The first argument says how it behaves: "well", "crash" at start, "fail" (exit code 3) or "deaf" at SIGTERM.
"""

from __future__ import annotations

import argparse
import signal
import sys

from bise import Health, Status
from bise.testing import FakeDaemon

EXIT_CODES = {"well": 0, "fail": 3}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("behaviour")
    parser.add_argument("--bundle")
    parser.add_argument("--listen")
    arguments = parser.parse_args()
    if arguments.behaviour == "crash":
        sys.exit("the bundle is broken")
    mask = {signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, mask)
    status = Status(model="fake", context_limit=2048, load_ms=12.0, peak_rss_bytes=50_000_000)
    with FakeDaemon(["It is Paris."] * 3, status=status, health=Health.SERVING, address=arguments.listen):
        signal.sigwait(mask)
        if arguments.behaviour == "deaf":
            signal.sigwait(mask)
    sys.exit(EXIT_CODES[arguments.behaviour])


if __name__ == "__main__":
    main()
