"""A daemon of one's own, for as long as a `with` lasts."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from bise.client import Client
from bise.errors import DaemonUnavailable
from bise.types import Health

_LOAD_TIMEOUT_S = 180.0
_STOP_TIMEOUT_S = 30.0
# How often a daemon that is not serving yet is looked at, to see whether it ended.
_LOOK_S = 0.5
_LOG_LINES = 20


class DaemonFailed(OSError):  # noqa: N818 - named for what happened
    """The daemon did not come up, or did not go down cleanly; the message ends with the last lines of its log."""


class DaemonProcess:
    """`bise serve` as a child process on a socket in a folder of its own.

    Args:
        bundle: the bundle's folder.
        log: where the daemon's output goes; overwritten.
        command: what serves; by default this installation's `bise serve`.
    """

    def __init__(self, bundle: Path, log: Path, command: Sequence[str] | None = None) -> None:
        self._log = log
        # Not in the cache: a socket's path must be short.
        self._folder = tempfile.TemporaryDirectory(prefix="bise-")
        self.address = f"unix://{Path(self._folder.name) / 'bise.sock'}"
        serve = command or [sys.executable, "-m", "bise", "serve"]
        self._command = [*serve, "--bundle", str(bundle), "--listen", self.address]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts the daemon and waits until it serves.

        Raises:
            DaemonFailed: it ended, or did not serve in time.
        """
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,  # Ctrl-C in the terminal is for the chat, not for the daemon
            )
        until = time.monotonic() + _LOAD_TIMEOUT_S
        with Client(self.address) as client:
            while not self._serves(client):
                if (code := self._process.poll()) is not None:
                    raise self._failed(f"expected it to serve, but it ended with exit code {code}")
                if time.monotonic() > until:
                    raise self._failed(f"expected it to serve within {_LOAD_TIMEOUT_S:.0f} s, but it does not yet")

    def stop(self) -> None:
        """Has the daemon drain and end.

        Raises:
            DaemonFailed: it did not end with exit code 0 in time; it is killed then.
        """
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise self._failed(f"expected it to end within {_STOP_TIMEOUT_S:.0f} s of SIGTERM; killed it") from None
        self._process = None
        if code:
            raise self._failed(f"expected exit code 0 after SIGTERM, got {code}")

    def kill(self) -> None:
        """Ends the daemon at once; harmless when it is not running."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> DaemonProcess:
        try:
            self.start()
        except BaseException:
            self._clean()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clean()

    def _clean(self) -> None:
        self.kill()
        self._folder.cleanup()

    def _serves(self, client: Client) -> bool:
        try:
            return client.wait_until_serving(timeout=_LOOK_S) is Health.SERVING
        except DaemonUnavailable:
            return False

    def _failed(self, what: str) -> DaemonFailed:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
        return DaemonFailed(f"the daemon: {what}. Its log {self._log} ends with: {' | '.join(lines) or '(nothing)'}")
