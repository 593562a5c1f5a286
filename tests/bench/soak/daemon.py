"""A `bise serve` that checks itself at every step, and whose last words are heard if it dies of one."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from bise import AsyncClient

_LOAD_S = 60
_STOP_S = 45.0
_LAST_WORDS = 4000


@dataclass(frozen=True, slots=True)
class Daemon:
    """A daemon that serves.

    Attributes:
        folder: for what must not outlive it.
    """

    client: AsyncClient
    process: psutil.Process
    folder: Path


@asynccontextmanager
async def checked_daemon(bundle: Path, **settings: Any) -> AsyncGenerator[Daemon, None]:
    """Runs a daemon with these settings until the block is left; leaving by an error prints what it said last."""
    with tempfile.TemporaryDirectory(prefix="bise-soak-") as name:
        folder = Path(name)
        address, config, log = f"unix://{folder}/bise.sock", folder / "bise.yaml", folder / "log"
        fixed = {"bundle": str(bundle.absolute()), "listen": address, "state_dir": "state", "check_integrity": True}
        config.write_text(yaml.safe_dump({**fixed, **settings}), encoding="utf-8")
        with log.open("wb") as said:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "bise", "serve", "--config", str(config), stdout=said, stderr=said
            )
        try:
            async with AsyncClient(address) as client:
                await client.wait_until_serving(timeout=_LOAD_S)
                yield Daemon(client, psutil.Process(process.pid), folder)
        except BaseException:
            sys.stderr.write(log.read_text(encoding="utf-8", errors="replace")[-_LAST_WORDS:])
            raise
        finally:
            await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    """SIGTERM, and SIGKILL for one that does not listen."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _STOP_S)
    except TimeoutError:
        process.kill()
        await process.wait()
