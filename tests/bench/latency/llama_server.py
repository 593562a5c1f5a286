"""llama-server, and how a caller with a deadline uses it."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from .process import ServerProcess
from .server import Event, ServerError, Tokens
from .sse import get_status, post_events
from .trace import Call

_POLL_S = 0.05
DEFAULT_BATCH_TOKENS = 2048
_MICROBATCH_TOKENS = 512
# llama.cpp rounds a sequence's context up to this.
_CONTEXT_STEP_TOKENS = 256


@dataclass(frozen=True, slots=True)
class Settings:
    """How it is run.

    Attributes:
        context_tokens: of one slot.
        batch_tokens: tokens of one step, prompts and answers together: its only means to bound how long a stream waits
            for a neighbour's prompt.
    """

    model: Path
    slots: int
    context_tokens: int
    threads: int
    batch_tokens: int = DEFAULT_BATCH_TOKENS


class LlamaServer:
    """A llama-server on a unix socket. Its callers have the same deadline, and hang up when it has passed."""

    def __init__(self, name: str, binary: Path, settings: Settings) -> None:
        self.name = name
        self._folder = tempfile.TemporaryDirectory(prefix="bise-bench-")
        self.socket = Path(self._folder.name) / "llama.sock"
        context = -(-settings.context_tokens // _CONTEXT_STEP_TOKENS) * _CONTEXT_STEP_TOKENS * settings.slots
        flags = {
            "--model": settings.model,
            "--host": self.socket,
            "--parallel": settings.slots,
            "--ctx-size": context,
            "--threads": settings.threads,
            "--batch-size": settings.batch_tokens,
            "--ubatch-size": min(_MICROBATCH_TOKENS, settings.batch_tokens),
        }
        command = [str(binary), *(str(word) for pair in flags.items() for word in pair), "--cont-batching", "--offline"]
        self._process = ServerProcess(command, Path(self._folder.name) / "log")

    async def start(self) -> None:
        """As `Server.start`."""
        await self._process.start(self._healthy())

    async def send(self, call: Call) -> AsyncGenerator[Event, None]:
        """As `Server.send`."""
        body = {
            "prompt": call.prompt,
            "n_predict": call.answer_tokens,
            "ignore_eos": True,
            "temperature": 0,
            "cache_prompt": True,
            "stream": True,
        }
        seen = 0
        deadline_s = asyncio.get_running_loop().time() + call.budget.total_ms / 1e3
        events = post_events(self.socket, "/completion", json.dumps(body).encode())
        async with aclosing(events):
            while (payload := await _before(deadline_s, events)) is not None:
                count = _tokens_predicted(payload)
                if count > seen:
                    yield Tokens(count - seen)
                seen = count

    async def stop(self) -> None:
        """As `Server.stop`."""
        await self._process.stop()
        self._folder.cleanup()

    async def _healthy(self) -> None:
        while await get_status(self.socket, "/health") != 200:
            await asyncio.sleep(_POLL_S)


async def _before(deadline_s: float, events: AsyncGenerator[bytes, None]) -> bytes | None:
    """The next event; None when there is none or time is up."""
    try:
        async with asyncio.timeout_at(deadline_s):
            return await anext(events, None)
    except TimeoutError:
        return None


def _tokens_predicted(payload: bytes) -> int:
    try:
        count = json.loads(payload)["tokens_predicted"]
    except (ValueError, KeyError, TypeError):
        count = None
    if not isinstance(count, int):
        raise ServerError(f"expected an event with tokens_predicted, got {payload[:200]!r}")
    return count
