"""Which of the daemon's settings can change while it serves."""

from __future__ import annotations

# What each request or the end looks up anew. All else went into the model, the cache, or the socket.
LIVE = ("default_timeout_s", "drain_timeout_s")
