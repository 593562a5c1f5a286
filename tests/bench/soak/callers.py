"""The callers: each sends one request, takes its leave in its manner, and is counted by how that ended."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import count
from pathlib import Path

from bise import AsyncClient
from bise.address import parse
from bise.errors import BiseError, Refused
from bise.types import FinishReason, Result

from ..latency.trace import Call
from .cable import Cable
from .conduct import Conduct, Manner
from .wrong import Wrong, is_right, send

_MOST_DETAILS = 20

Leave = Callable[[], Awaitable[None]]
Line = AbstractAsyncContextManager[tuple[AsyncClient, Leave]]


class Callers:
    """Everyone who calls one daemon.

    Args:
        client: of the daemon.
        folder: for sockets between a caller and the daemon's.

    Attributes:
        outcomes: how many calls ended how, all of them rightly.
        unexpected: what else happened; the first few of it.
        unexpected_count: and how often.
    """

    def __init__(self, client: AsyncClient, folder: Path) -> None:
        self._client = client
        self._folder = folder
        self._cables = count()
        self._lines: dict[Manner, Callable[[], Line]] = {
            Manner.STAYS: self._shared,
            Manner.CANCELS: self._shared,
            Manner.HANGS_UP: self._own,
            Manner.IS_CUT: self._cable,
        }
        self.outcomes: Counter[str] = Counter()
        self.unexpected: list[str] = []
        self.unexpected_count = 0

    async def right(self, call: Call, conduct: Conduct) -> None:
        """Makes a call that there is nothing wrong with."""
        async with self._lines[conduct.manner]() as (client, leave):
            options = conduct.options_for(call.budget)
            answer = client.generate(call.prompt, max_tokens=call.answer_tokens, **options)
            reading = asyncio.ensure_future(answer)
            is_leaving = conduct.manner is not Manner.STAYS
            await asyncio.wait({reading}, timeout=conduct.patience * call.budget.total_ms / 1e3 if is_leaving else None)
            if not reading.done():
                await leave()
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
                self.outcomes[f"left: {conduct.manner}"] += 1
                return
        self._judge(reading, f"{call.shape}, {options}")

    async def wrong(self, name: str, request: Wrong) -> None:
        """Makes a call that must be refused, for the right reason."""
        got = await send(self._client.address, request)
        if is_right(request, got):
            self.outcomes["wrong, and told so"] += 1
        else:
            self._note(f"{name}: expected {request.expected}, got {got}")

    def _judge(self, reading: asyncio.Future[Result], asked: str) -> None:
        try:
            result = reading.result()
        except Refused as error:
            self.outcomes[f"refused: {error.reason}"] += 1
        except BiseError as error:
            # The daemon's own word for it; a deadline that the connection had to keep has none.
            if error.reason == "DEADLINE":
                self.outcomes["failed at its deadline, as asked"] += 1
            else:
                self._note(f"{asked}: {error!r}")
        else:
            self._judge_result(result, asked)

    def _judge_result(self, result: Result, asked: str) -> None:
        granted = result.accepted.granted_max_tokens
        if result.finish_reason is FinishReason.DEADLINE:
            self.outcomes["cut at its deadline"] += 1
        elif (result.finish_reason, len(result.token_ids)) == (FinishReason.LENGTH, granted):
            self.outcomes["answered"] += 1
        else:
            self._note(f"{asked}: expected {granted} tokens, got {len(result.token_ids)} ({result.finish_reason})")

    def _note(self, what: str) -> None:
        self.unexpected_count += 1
        if len(self.unexpected) < _MOST_DETAILS:
            self.unexpected.append(what)

    @asynccontextmanager
    async def _shared(self) -> AsyncGenerator[tuple[AsyncClient, Leave], None]:
        async def nothing() -> None:
            """Giving up the reading is leaving."""

        yield self._client, nothing

    @asynccontextmanager
    async def _own(self) -> AsyncGenerator[tuple[AsyncClient, Leave], None]:
        async with AsyncClient(self._client.address) as client:
            yield client, client.close

    @asynccontextmanager
    async def _cable(self) -> AsyncGenerator[tuple[AsyncClient, Leave], None]:
        near, far = self._folder / f"cable-{next(self._cables)}.sock", parse(self._client.address).socket
        assert far is not None, self._client.address
        async with Cable(near, far) as cable, AsyncClient(f"unix://{near}") as client:

            async def cut() -> None:
                cable.cut()

            yield client, cut
