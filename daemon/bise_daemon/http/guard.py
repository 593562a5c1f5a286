"""Who is let in: programs, and pages that came from here; no page of another site that a browser here has open."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from bise_daemon.http.error import HttpError


class Guard:
    """Refuses what a browser would send for another site.

    Such a request names the site in Origin. Where the site's own name was made to lead here (DNS rebinding), Host has
    that name, so on loopback only loopback's names are taken.

    Args:
        app: what is behind it.
        any_host: Host is not looked at: no browser reaches a unix socket, and beyond loopback names are unknown.
    """

    def __init__(self, app: ASGIApp, any_host: bool) -> None:
        self._app = app
        self._any_host = any_host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a request pass, or answers it with an error."""
        error = self._objection(Headers(scope=scope)) if scope["type"] == "http" else None
        await (self._app if error is None else error.response())(scope, receive, send)

    def _objection(self, headers: Headers) -> HttpError | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._any_host and not _is_loopback(host):
            return HttpError(403, "FOREIGN_HOST", f"Host: expected localhost or 127.0.0.1, got {host[:100]!r}.")
        if origin is not None and origin.lower() != f"http://{host}".lower():
            return HttpError(403, "FOREIGN_ORIGIN", f"Origin: expected none or this server's, got {origin[:100]!r}.")
        return None


def _is_loopback(host: str) -> bool:
    """Whether a Host header names this machine: a name that resolves to it elsewhere, too, is no proof."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
