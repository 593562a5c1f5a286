"""The configuration as it is now: some of it can change while the daemon serves."""

from __future__ import annotations

from bise_daemon.config.daemon import DaemonConfig
from bise_daemon.config.problem import ConfigError, Problem

# What each request or the end looks up anew. All else went into the model, the cache, or the socket.
LIVE = ("log_level", "default_timeout_s", "drain_timeout_s")


class LiveConfig:
    """Holds what was accepted last.

    Attributes:
        now: to be looked at when it is needed, not kept.
    """

    def __init__(self, config: DaemonConfig) -> None:
        self.now = config

    def replace(self, config: DaemonConfig) -> dict[str, object]:
        """Takes another configuration over, whole or not at all.

        Returns:
            The settings that changed.

        Raises:
            ConfigError: something differs that can't change while the daemon serves.
        """
        before, after = dict(self.now), dict(config)
        changed = {name: value for name, value in after.items() if value != before[name]}
        if fixed := [name for name in changed if name not in LIVE]:
            raise ConfigError(
                Problem(name, f"expected {before[name]}, which is served, got {after[name]}. Restart to change it.")
                for name in fixed
            )
        self.now = config
        return changed
