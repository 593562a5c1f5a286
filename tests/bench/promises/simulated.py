"""A memory limit that only the daemon's governor believes in, for machines without control groups.

`python -m tests.bench.promises.simulated LIMIT_FILE --config FILE` is `bise serve --config FILE` under the limit that
the first file holds, in bytes.
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from pathlib import Path

from bise_daemon.config.load import load_config
from bise_daemon.memory.readers import read_memory
from bise_daemon.memory.reading import Reading
from bise_daemon.server import Server


class SimulatedLimit:
    """A limit that nobody but the governor keeps.

    Args:
        path: of the file that holds it.
    """

    kills = 0  # the kernel does not know of it

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def serve(self) -> list[str]:
        """Serves under it; to be followed by `--config FILE`."""
        return [sys.executable, "-m", __name__, str(self._path)]

    def set_limit(self, limit_bytes: int) -> None:
        """Changes it, in one rename: the daemon must not read half a number."""
        written = self._path.with_suffix(".part")
        written.write_text(str(limit_bytes))
        written.rename(self._path)


def _read(path: Path) -> Reading:
    """What is resident counts against the limit, all of it."""
    real = read_memory()
    limit_bytes = int(path.read_text())
    return Reading(max(0, limit_bytes - real.rss_bytes), limit_bytes, real.rss_bytes, real.peak_rss_bytes)


async def _main(path: Path, config: Path) -> None:
    await Server(load_config(config), read=partial(_read, path)).run()


if __name__ == "__main__":
    limit, _, config = sys.argv[1:]
    asyncio.run(_main(Path(limit), Path(config)))
