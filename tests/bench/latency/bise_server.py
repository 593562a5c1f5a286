"""bise itself: `bise serve` on a unix socket, called with its own SDK."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

from bise import AsyncClient
from bise.errors import BiseError, Refused

from .process import ServerProcess
from .server import Event, Promise, RefusedError, ServerError, Tokens
from .trace import Call

_START_S = 100.0


@dataclass(frozen=True, slots=True)
class Settings:
    """How it is run."""

    bundle: Path
    slots: int
    context_tokens: int
    threads: int


class BiseServer:
    """A `bise serve` in a process of its own."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self._folder = tempfile.TemporaryDirectory(prefix="bise-bench-")
        self._address = f"unix://{self._folder.name}/bise.sock"
        flags = {
            "--bundle": settings.bundle,
            "--listen": self._address,
            "--slots": settings.slots,
            "--context": settings.context_tokens,
            "--threads": settings.threads,
        }
        words = (str(word) for pair in flags.items() for word in pair)
        self._process = ServerProcess([sys.executable, "-m", "bise", "serve", *words], Path(self._folder.name) / "log")
        self._client: AsyncClient | None = None

    async def start(self) -> None:
        """As `Server.start`."""
        self._client = AsyncClient(self._address)
        await self._process.start(self._client.wait_until_serving(timeout=_START_S))

    def send(self, call: Call) -> AsyncGenerator[Event, None]:
        """As `Server.send`."""
        assert self._client is not None, "not started"
        return answer(self._client, call)

    async def stop(self) -> None:
        """As `Server.stop`."""
        if self._client is not None:
            await self._client.close()
        await self._process.stop()
        self._folder.cleanup()


async def answer(client: AsyncClient, call: Call) -> AsyncGenerator[Event, None]:
    """The answer to a call, as `Server.send`."""
    stream = client.stream_generate(
        call.prompt,
        max_tokens=call.answer_tokens,
        min_granted_tokens=call.answer_tokens,  # part of an answer meets no budget
        ignore_eos=True,
        timeout=call.budget.total_ms / 1e3,
        first_token_timeout=call.budget.first_token_ms / 1e3,
        per_token_timeout=call.budget.per_token_ms / 1e3,
    )
    try:
        async with stream:
            accepted = stream.accepted
            yield Promise(accepted.predicted_first_token_ms, accepted.predicted_total_ms, accepted.granted_max_tokens)
            async for delta in stream:
                if delta.token_ids:
                    yield Tokens(len(delta.token_ids))
    except Refused as error:
        raise RefusedError(error.reason) from error
    except BiseError as error:
        raise ServerError(f"{type(error).__name__}: {error}") from error
