"""Which conversations can be resumed."""

from __future__ import annotations

import pytest

from bise_daemon.dialogue.dialogue import Dialogue
from bise_daemon.dialogue.held import HeldDialogues
from bise_daemon.errors import Reason, RequestError
from bise_proto.v1.inference_pb2 import Message, Open


def dialogue(size_bytes: int = 0) -> Dialogue:
    return Dialogue(Open(messages=[Message(role="user", content="x" * size_bytes)]))


async def unmoved() -> None:
    raise AssertionError("nobody is on a stream")


async def ended(held: HeldDialogues, now: float, size_bytes: int = 0) -> str:
    """The id of a conversation whose stream ended."""
    dialogue_id = held.begin(dialogue(size_bytes), unmoved)
    held.end(dialogue_id, now)
    return dialogue_id


async def is_held(held: HeldDialogues, dialogue_id: str, now: float) -> bool:
    try:
        await held.resume(dialogue_id, unmoved, now)
    except RequestError:
        return False
    held.end(dialogue_id, now)
    return True


async def test_a_conversation_comes_back_as_it_was() -> None:
    held, begun = HeldDialogues(1000), dialogue()
    dialogue_id = held.begin(begun, unmoved)
    held.end(dialogue_id, 0.0)
    assert await held.resume(dialogue_id, unmoved, 1.0) is begun


async def test_ids_are_long_and_never_the_same() -> None:
    held = HeldDialogues(1000)
    ids = {held.begin(dialogue(), unmoved) for _ in range(100)}
    assert len(ids) == 100
    assert {len(each) for each in ids} == {22}


@pytest.mark.parametrize("dialogue_id", ["", "nobody's", "x" * 100_000, "\0", "../..", "é🌬"])
async def test_others_ids_are_refused_with_what_to_do(dialogue_id: str) -> None:
    held = HeldDialogues(1000)
    held.begin(dialogue(), unmoved)
    with pytest.raises(RequestError, match="Open a new conversation, with the messages of this one") as refusal:
        await held.resume(dialogue_id, unmoved, 0.0)
    assert refusal.value.reason is Reason.CONVERSATION_LOST
    assert len(refusal.value.message) < 300


async def test_it_is_held_for_some_time_from_its_streams_end() -> None:
    held = HeldDialogues(1000, held_ms=100.0)
    dialogue_id = await ended(held, 50.0)
    assert await is_held(held, dialogue_id, 149.0)
    assert await is_held(held, dialogue_id, 248.0)
    assert not await is_held(held, dialogue_id, 348.0)


async def test_the_latest_are_held() -> None:
    held = HeldDialogues(1000, most=2)
    first, second = await ended(held, 0.0), await ended(held, 1.0)
    assert await is_held(held, first, 2.0)  # which makes it the latest
    third = await ended(held, 3.0)
    assert [await is_held(held, each, 4.0) for each in (first, second, third)] == [True, False, True]


async def test_all_together_are_no_larger_than_they_may() -> None:
    held = HeldDialogues(1000)
    small, large = await ended(held, 0.0, 100), await ended(held, 1.0, 800)
    assert await is_held(held, small, 2.0)
    other = await ended(held, 3.0, 300)
    assert [await is_held(held, each, 4.0) for each in (small, large, other)] == [True, False, True]
    assert not await is_held(held, await ended(held, 5.0, 2000), 6.0)


async def test_those_on_a_stream_are_not_counted_and_not_forgotten() -> None:
    held = HeldDialogues(1000, most=1, held_ms=100.0)
    on_stream = held.begin(dialogue(900), unmoved)
    other = await ended(held, 0.0, 900)
    assert await is_held(held, other, 99.0)
    held.end(on_stream, 1000.0)
    assert await is_held(held, on_stream, 1001.0)
    assert not await is_held(held, other, 1001.0)


async def test_who_resumes_takes_it_from_another_stream() -> None:
    held, begun, left = HeldDialogues(1000), dialogue(), list[str]()

    async def leave() -> None:
        left.append(dialogue_id)
        held.end(dialogue_id, 5.0)

    dialogue_id = held.begin(begun, leave)
    assert await held.resume(dialogue_id, unmoved, 5.0) is begun
    assert left == [dialogue_id]
