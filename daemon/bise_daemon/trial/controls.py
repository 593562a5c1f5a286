"""The daemon, as commands and its own health have it."""

from __future__ import annotations

import shlex
import subprocess
import time
from dataclasses import dataclass

from bise_daemon.config.daemon import DaemonConfig
from bise_daemon.trial.health import wait_until_serving

_MAX_SAID_CHARS = 500
# What serves answers at once.
_SOON_S = 2.0


@dataclass(frozen=True, slots=True)
class Service:
    """A daemon that commands start and reload.

    Attributes:
        restart, reload: words as in a shell, without its expansions.
    """

    restart: str
    reload: str

    def serves(self, config: DaemonConfig) -> bool:
        """Whether it serves now."""
        return not wait_until_serving(config.listen, time.monotonic() + _SOON_S)

    def take_over(self, action: str, config: DaemonConfig, window_s: float) -> str:
        """Has it take its configuration over, by `reload` or `restart`; why it does not serve then, or nothing."""
        command = self.reload if action == "reload" else self.restart
        until_s = time.monotonic() + window_s
        try:
            done = subprocess.run(  # noqa: S603 - the operator's own words
                shlex.split(command), capture_output=True, text=True, timeout=window_s, check=False
            )
        except subprocess.TimeoutExpired:
            return f"`{command}` did not end within {window_s:g} s"
        if done.returncode:
            return f"`{command}` ended with {done.returncode}: {done.stderr.strip()[-_MAX_SAID_CHARS:]}"
        if said := wait_until_serving(config.listen, until_s):
            return f"it did not serve within {window_s:g} s: {said}"
        return ""
