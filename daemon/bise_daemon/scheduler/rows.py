"""The rows of the cache: who runs where, what others left there, and what is to be moved or given back for that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count

from bise_daemon.scheduler.costs import StepCosts
from bise_daemon.scheduler.limits import Limits
from bise_daemon.scheduler.placement import place
from bise_daemon.scheduler.request import Phase, Request
from bise_daemon.scheduler.slots import Slot, longest_match
from bise_daemon.scheduler.step import Copy, Decode, Mixed, Prefill, Release, Row, Settle

# A row moves to a hole when that pays within so many steps.
_PAYBACK_STEPS = 32


class Rows:
    """Slots and what they hold. What a request has computed stays when it leaves, for whoever begins alike.

    Changes of the cache are collected until `take_changes`.
    """

    def __init__(self, limits: Limits) -> None:
        self._context_tokens = limits.context_tokens
        self._smallest_chunk = limits.smallest_chunk
        self._one_way = limits.one_way
        self._slots = [Slot(index) for index in range(limits.all_slots)]
        self._uses = count(1)
        self._copies: list[Copy] = []
        self._emptied: set[int] = set()

    @property
    def running(self) -> list[Request]:
        """Requests that hold a slot, by slot."""
        return [slot.owner for slot in self._slots if slot.owner is not None]

    @property
    def changed(self) -> bool:
        """Whether `take_changes` has something to give."""
        return bool(self._copies or self._emptied)

    @property
    def reserved_tokens(self) -> int:
        """Cache entries that those running can come to need."""
        return sum(request.reserved_tokens for request in self.running)

    @property
    def idle_tokens(self) -> int:
        """Cache entries kept of requests that are not running, pinned ones included."""
        return sum(len(slot.kept) for slot in self._slots)

    def owner(self, slot: int) -> Request | None:
        """Who runs in a slot."""
        return self._slots[slot].owner

    def prefixes(self) -> list[tuple[Sequence[int], int]]:
        """The tokens each slot holds, and how many of them are there."""
        return [(slot.tokens, slot.held) for slot in self._slots if slot.held]

    def pin(self, slot: int, tokens: Sequence[int]) -> None:
        """Declares that a slot holds these tokens, to be copied and never given to anybody."""
        assert self._slots[slot].owner is None, slot
        pinned = self._slots[slot]
        pinned.kept, pinned.prompt_tokens, pinned.pinned = list(tokens), len(tokens), True

    def seat(self, request: Request, costs: StepCosts) -> None:
        """Gives a request a slot, with the longest prefix of its tokens that any slot holds."""
        known = request.known
        request.prefill_tokens = len(known) if self._one_way else len(request.prompt)
        # What is left must make a step: the next token comes from its logits.
        most = len(known) - (1 if request.output else self._smallest_chunk)
        found = longest_match(known, ((slot.index, slot.tokens, slot.held_for(request)) for slot in self._slots), most)
        if not self._one_way and 0 < len(request.prompt) - found.tokens < self._smallest_chunk:
            found = replace(found, tokens=max(0, len(request.prompt) - self._smallest_chunk))
        slot = place(self._slots, found, costs)
        if found.slot is not None and found.slot != slot.index:
            self._copies.append(Copy(found.slot, slot.index, found.tokens))
        slot.clear()
        slot.owner, slot.used = request, next(self._uses)
        request.slot, request.computed_tokens = slot.index, found.tokens
        request.phase = Phase.DECODE if request.answers else Phase.PREFILL
        if not request.output:
            request.reused_tokens = found.tokens

    def vacate(self, request: Request, *, ends: bool) -> None:
        """Takes the slot away; what somebody can use stays in it, but for the last place, where fillers write."""
        assert request.slot is not None
        slot = self._slots[request.slot]
        slot.owner, slot.used = None, next(self._uses)
        computed_tokens = min(request.computed_tokens, self._context_tokens - 1)
        as_prompt = computed_tokens if self._one_way else min(computed_tokens, request.prefill_tokens)
        if ends and not request.leaves_prefix:
            as_prompt = 0
        slot.kept, slot.prompt_tokens = request.known[: as_prompt if ends else computed_tokens], as_prompt
        if ends and as_prompt == len(request.prompt) and not self._one_way:
            slot.said = request.known[as_prompt : self._context_tokens - 1]
        slot.ahead = request.max_tokens == 0
        request.slot = None
        self._emptied.add(slot.index)

    @property
    def unsettled(self) -> bool:
        """Whether there is an answer that is no prefix yet."""
        return any(slot.said for slot in self._slots)

    def settle(self, room_tokens: int, most_tokens: Callable[[int, int], int]) -> Settle | None:
        """The next tokens of the last such answer; one that can't be a chunk, or has no room, is given up.

        What was used longer ago makes room for it.

        Args:
            room_tokens: idle entries there may be.
            most_tokens: of a step, by tokens left and entries before them.
        """
        for slot in sorted((slot for slot in self._slots if slot.said), key=lambda slot: slot.used, reverse=True):
            enough = len(slot.said) >= self._smallest_chunk
            before_tokens = room_tokens - len(slot.said)
            if enough and self.idle_tokens - self._older_tokens(slot) <= before_tokens:
                self.trim(before_tokens)
                count = max(self._smallest_chunk, most_tokens(len(slot.said), len(slot.kept)))
                if len(slot.said) - count < self._smallest_chunk:
                    count = len(slot.said)
                return Settle(slot.index, len(slot.kept), slot.said[:count])
            slot.said = ()
        return None

    def settled(self, work: Settle) -> None:
        """That has been computed."""
        slot = self._slots[work.slot]
        assert len(slot.kept) == work.start, (slot, work)
        slot.kept, slot.said = [*slot.kept, *work.tokens], slot.said[len(work.tokens) :]
        slot.prompt_tokens = len(slot.kept)

    def trim(self, room_tokens: int) -> None:
        """Lets go of kept entries until there is room, the longest unused first, pinned ones last."""
        for slot in sorted((slot for slot in self._slots if slot.kept), key=lambda slot: (slot.pinned, slot.used)):
            if self.idle_tokens <= room_tokens:
                return
            slot.clear()
            slot.pinned = False
            self._emptied.add(slot.index)

    def decode(self, rows: Sequence[Request], costs: StepCosts) -> Decode:
        """One token for each of these requests, of its prompt or its answer, with fillers in the slots between."""
        self._close_hole(rows, costs)
        runs = {row.slot: row for row in rows}
        span = self._span(rows)
        return Decode(span[0].index, [_row(slot, runs.get(slot.index)) for slot in span])

    def mixed(self, chunk: Prefill, step: Decode) -> Mixed | Prefill:
        """Both at once, or the chunk alone where a filler in its slot would have no place behind it."""
        rows, end = list(step.rows), chunk.start + len(chunk.tokens)
        if 0 <= (index := chunk.slot - step.first_slot) < len(rows):
            if end == self._context_tokens:
                return chunk
            rows[index] = replace(rows[index], position=end)
        return Mixed(chunk, Decode(step.first_slot, rows))

    def empty_row(self) -> tuple[int, int] | None:
        """The slot without an owner that holds least, and the first place behind what it holds."""
        free = [slot for slot in self._slots if slot.owner is None and not slot.pinned]
        slot = min(free, key=lambda slot: slot.entries, default=None)
        return None if slot is None else (slot.index, slot.entries)

    def step_ms(self, rows: Sequence[Request], costs: StepCosts) -> float:
        """What one token for each of these takes where they stand, fillers included; 0 without any."""
        return costs.decode_ms(*self.span(rows)) if rows else 0.0

    def span(self, rows: Sequence[Request]) -> tuple[int, int]:
        """Rows of a step for these, fillers included, and the cache entries that they hold."""
        span = self._span(rows)
        return len(span), sum(slot.entries for slot in span)

    def take_changes(self) -> tuple[list[Copy], list[Release]]:
        """What the cache has to do, copies first. A slot that has found an owner meanwhile must not be wiped then."""
        copies, self._copies = self._copies, []
        emptied, self._emptied = sorted(self._emptied), set()
        slots = [self._slots[index] for index in emptied]
        return copies, [Release(slot.index, len(slot.kept)) for slot in slots if slot.owner is None]

    def check_integrity(self) -> None:
        """Asserts what must hold between steps."""
        for index, slot in enumerate(self._slots):
            assert slot.index == index
            assert slot.prompt_tokens <= len(slot.kept) < self._context_tokens, slot
            assert len(slot.kept) + len(slot.said) < self._context_tokens, slot
            if (request := slot.owner) is None:
                continue
            assert not slot.kept, slot
            assert not slot.said, slot
            assert not slot.pinned, slot
            assert request.slot == index, (index, request)
            assert request.phase in (Phase.PREFILL, Phase.DECODE), request
            assert request.computed_tokens <= request.reserved_tokens <= self._context_tokens, request
            assert request.left_to_generate >= 1 or not request.max_tokens, request
            assert request.phase is Phase.PREFILL or request.answers, request

    def _older_tokens(self, slot: Slot) -> int:
        """What `trim` would let go of before this slot's."""
        return sum(len(each.kept) for each in self._slots if not each.pinned and each.used < slot.used)

    def _span(self, rows: Sequence[Request]) -> list[Slot]:
        taken = [row.slot for row in rows if row.slot is not None]
        return self._slots[min(taken) : max(taken) + 1]

    def _close_hole(self, rows: Sequence[Request], costs: StepCosts) -> None:
        """Moves one row at the edge into a hole between the others, where fewer fillers soon repay the copy.

        The slot of a prompt of which nothing is computed yet is a hole, too: they change places.
        """
        span = self._span(rows)
        taken = sorted(row.slot for row in rows if row.slot is not None)
        between = [slot for slot in span if slot.index not in taken]
        holes = [slot for slot in between if not (slot.pinned if slot.owner is None else slot.owner.computed_tokens)]
        if not holes:
            return
        moves = [
            *((min(hole.index, taken[1]) - taken[0], span[0], hole) for hole in holes),
            *((taken[-1] - max(hole.index, taken[-2]), span[-1], hole) for hole in holes),
        ]
        freed_rows, source, target = max(moves, key=lambda move: (move[0], -len(move[2].kept), -move[2].used))
        moved = source.owner
        assert moved is not None
        entries = sum(slot.entries for slot in span)
        saved_ms = costs.decode_ms(len(span), entries) - costs.decode_ms(len(span) - freed_rows, entries)
        steps = min(_PAYBACK_STEPS, min(row.left_to_generate for row in rows))
        if costs.copy_ms(moved.computed_tokens) >= saved_ms * steps:
            return
        if moved.computed_tokens:
            self._copies.append(Copy(source.index, target.index, moved.computed_tokens))
        target.clear()
        source.owner, target.owner = target.owner, moved
        moved.slot, target.used = target.index, next(self._uses)
        if source.owner is not None:
            source.owner.slot = source.index
        self._emptied.add(source.index)


def _row(slot: Slot, request: Request | None) -> Row:
    if request is not None:
        return Row(request.id, request.next_input, request.computed_tokens, request.samples)
    return Row(None, 0, slot.entries, samples=False)
