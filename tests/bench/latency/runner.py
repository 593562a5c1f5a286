"""The runner: sends a trace in real time, open loop, and notes when every token came."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum

from .server import Promise, RefusedError, Server, ServerError, Tokens
from .trace import Call

# Behind the total budget: a server that is still silent then hangs, and the bench goes on without it.
_PATIENCE_S = 10.0


class Outcome(StrEnum):
    """How a call ended."""

    ANSWERED = "answered"  # with all or some of its tokens
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Record:
    """What became of one call; times in milliseconds from the moment it was due.

    Attributes:
        late_ms: how far behind the trace it was sent: the generator's fault, not the server's.
        token_ms: when each token came.
        ended_ms: when the answer, or the no, was over.
        detail: of a refusal or failure, why.
    """

    call: Call
    outcome: Outcome
    late_ms: float
    token_ms: tuple[float, ...]
    ended_ms: float
    promise: Promise | None = None
    detail: str = ""

    @property
    def gaps_ms(self) -> list[float]:
        """Between one token and the next."""
        return [after - before for before, after in zip(self.token_ms, self.token_ms[1:], strict=False)]

    @property
    def whole(self) -> bool:
        """All tokens came."""
        return self.outcome is Outcome.ANSWERED and len(self.token_ms) >= self.call.answer_tokens

    @property
    def met_first_token(self) -> bool:
        """The first token came within its budget."""
        return bool(self.token_ms) and self.token_ms[0] <= self.call.budget.first_token_ms

    @property
    def met_total(self) -> bool:
        """The whole answer came within its budget."""
        return self.whole and self.token_ms[-1] <= self.call.budget.total_ms

    @property
    def met_every_gap(self) -> bool:
        """No token was later behind the one before it than the budget allows."""
        return bool(self.token_ms) and max(self.gaps_ms, default=0.0) <= self.call.budget.per_token_ms

    @property
    def met_pace(self) -> bool:
        """The mean gap was within the budget: the milder reading, for callers who buffer."""
        gaps = self.gaps_ms
        return bool(self.token_ms) and sum(gaps) <= self.call.budget.per_token_ms * len(gaps)


async def replay(server: Server, trace: Sequence[Call]) -> list[Record]:
    """Sends every call when it is due, whatever became of those before; returns when all have ended."""
    began_s = asyncio.get_running_loop().time()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_one(server, call, began_s + call.at_ms / 1e3)) for call in trace]
    return [task.result() for task in tasks]


async def _one(server: Server, call: Call, due_s: float) -> Record:
    clock = asyncio.get_running_loop().time
    await asyncio.sleep(due_s - clock())

    def since_due_ms() -> float:
        return (clock() - due_s) * 1e3

    late_ms = since_due_ms()
    token_ms: list[float] = []
    promise: Promise | None = None
    outcome, detail = Outcome.ANSWERED, ""
    try:
        async with asyncio.timeout(call.budget.total_ms / 1e3 + _PATIENCE_S), aclosing(server.send(call)) as events:
            async for event in events:
                match event:
                    case Tokens(count=count):
                        token_ms += [since_due_ms()] * count
                    case Promise():
                        promise = event
    except RefusedError as error:
        outcome, detail = Outcome.REFUSED, str(error)
    except (ServerError, OSError) as error:
        outcome, detail = Outcome.FAILED, f"{type(error).__name__}: {error}"
    except TimeoutError:
        outcome, detail = Outcome.FAILED, f"silent for {_PATIENCE_S:g} s behind its deadline"
    return Record(call, outcome, late_ms, tuple(token_ms), since_due_ms(), promise, detail)
