"""Which slot a request gets: where that costs least in copies, filler rows and prefixes lost."""

from __future__ import annotations

from collections.abc import Sequence

from bise_daemon.scheduler.costs import StepCosts
from bise_daemon.scheduler.slots import Match, Slot

# Decode steps that a filler row is paid for, as a guess: an answer's length is not known, and a hole may close.
_FILLER_STEPS = 32
# Of what was computed ahead: the end of a chat format and some words. Who goes on from there takes their place, or each
# word that is heard would leave a slot with the ones before it.
_REVISED_TOKENS = 24
# Chunk that tells what a prompt token costs.
_CHUNK = 64


def place(slots: Sequence[Slot], found: Match, costs: StepCosts) -> Slot:
    """The slot for a request whose longest prefix is `found`; at least one has no owner and is not pinned."""
    free = [slot for slot in slots if slot.owner is None and not slot.pinned]
    taken = [slot.index for slot in slots if slot.owner is not None]
    by_age = {slot.index: age for age, slot in enumerate(sorted(free, key=lambda slot: slot.used, reverse=True))}
    row_ms = costs.decode_ms(2, 0) - costs.decode_ms(1, 0)
    token_ms = costs.prefill_ms(_CHUNK, 0) / _CHUNK

    def price_ms(slot: Slot) -> float:
        here = slot.index == found.slot
        copy_ms = costs.copy_ms(found.tokens) if found.tokens and not here else 0.0
        lost_tokens = len(slot.kept) - (found.tokens if here else 0)
        if here and slot.ahead and lost_tokens <= _REVISED_TOKENS:
            lost_tokens = 0
        # What was used last is the likeliest to be wanted again.
        lost_ms = lost_tokens * token_ms / (1 + by_age[slot.index])
        return copy_ms + lost_ms + _gap(slot.index, taken) * row_ms * _FILLER_STEPS

    return min(free, key=lambda slot: (price_ms(slot), slot.index))


def _gap(index: int, taken: Sequence[int]) -> int:
    """Filler rows that a row at `index` adds to a decode step of the rows taken."""
    if not taken or min(taken) < index < max(taken):
        return 0
    return min(abs(index - min(taken)), abs(index - max(taken))) - 1
