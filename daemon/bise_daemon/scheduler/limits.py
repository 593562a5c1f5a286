"""What the device gives the scheduler."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What the device gives. The memory part may change while requests run; the rest is fixed.

    Attributes:
        slots: requests that may run at once.
        context_tokens: cache entries one slot has room for.
        kv_budget_tokens: cache entries all slots together may hold, idle ones included.
        prefill_chunk_tokens: prompt tokens of one step at most.
        spare_slots: further slots, that only keep the prefixes of requests that ended.
        idle_tokens: cache entries kept of requests that ended.
        step_ms: what one step may take while others could come, in expected milliseconds; a prompt's chunks are cut
            to it.
        ageing_ms: a request that no step served for so long counts as one class higher, again and again.
        draft_tokens: tokens guessed ahead in one step at most; 0 is no guessing.
        known_tokens: tokens of an answer that may be run in one step where they are known (a format dictated them, or
            it was interrupted); 1 where that would come out otherwise in last bits than one by one.
        smallest_chunk: prompt tokens of one step at least, unless the prompt has fewer. 2 where onnxruntime computes a
            single one with another kernel, equal but for the last bits: a prompt must not come out differently for how
            it was cut.
        one_way: a token leaves the same entries in the cache, to the last bit, as part of a prompt and of an answer. So
            an answer is a prefix for whoever goes on from it, and prompts may ride along. Otherwise each token is
            computed in the way of its part only.
        mixes: a prompt's chunk may come in one step with a token for each stream.
        fair_chunk: prompt tokens that a stream without a promise waits for between two of its own, even where that
            takes longer than one of them, on a device where prompts can't ride along (`rides`).
    """

    slots: int
    context_tokens: int
    kv_budget_tokens: int
    prefill_chunk_tokens: int
    spare_slots: int = 0
    idle_tokens: int = 0
    # 128 tokens behind 4,000 take SmolLM2 700 ms on two cores; cut to 50 ms, a prompt loses at most a third of speed.
    step_ms: float = 50.0
    ageing_ms: float = 5000.0
    draft_tokens: int = 0
    known_tokens: int = 1
    smallest_chunk: int = 2
    # Fewer would hold the stream up little less and the prompt for long: behind 4,000 tokens SmolLM2 takes 26 ms for 8
    # more and a stream's token, 22 for 4 and 16 for one. With 4, a stream's slowest gaps were 35 ms (8: 42), and 4,000
    # prompt tokens took 18.5 s (8: 11.6).
    fair_chunk: int = 8
    one_way: bool = True
    mixes: bool = False

    @property
    def rides(self) -> bool:
        """Whether a prompt's token may join a decode step: where one token alone is computed as in a chunk.

        Where chunks may join it, that is better.
        """
        return self.one_way and self.smallest_chunk == 1 and not self.mixes

    @property
    def all_slots(self) -> int:
        """Slots of the cache."""
        return self.slots + self.spare_slots
