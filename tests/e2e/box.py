"""What starts the daemon of a device that is a folder here: `python box.py restart|stop FOLDER BISE`."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil

_PATIENCE_S = 30


def stop(folder: Path) -> None:
    """Ends the daemon, if there is one."""
    record = folder / "pid"
    if not record.exists():
        return
    try:
        process = psutil.Process(int(record.read_text()))
        process.terminate()
        until_s = time.monotonic() + _PATIENCE_S
        # Nobody may be there to take its exit code.
        while process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > until_s:
                process.kill()
            time.sleep(0.02)
    except psutil.NoSuchProcess:
        pass
    record.unlink()


def restart(folder: Path, bise: str) -> None:
    """As a unit does it that has deploy/examples/bised.service.d: counts the start, and starts the daemon."""
    stop(folder)
    config = folder / "bise.yaml"
    subprocess.run([bise, "config", "start", f"--config={config}"], check=True)
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [bise, "serve", f"--config={config}"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    (folder / "pid").write_text(str(process.pid))


if __name__ == "__main__":
    verb, where, *rest = sys.argv[1:]
    restart(Path(where), *rest) if verb == "restart" else stop(Path(where))
