"""TRUNCATE_OLDEST: what stays, what goes, and that no more goes than must."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, pairwise
from math import ceil, log2
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bise_daemon.chat.conversation import Conversation
from bise_daemon.chat.format import ChatFormat, load_chat_format
from bise_daemon.chat.jinja import JinjaChat
from bise_daemon.chat.json_tokenizer import JsonTokenizer
from bise_daemon.chat.message import Message
from bise_daemon.chat.template import ChatTemplate
from bise_daemon.chat.tokenizer import load_tokenizer
from bise_daemon.chat.truncation import truncate_oldest
from bise_daemon.errors import Reason, RequestError
from bise_proto.v1 import bundle_pb2

OPENING_TOKENS, LAYOUT_TOKENS = 4, 3


class CharacterCount:
    """A token for each character, some for the layout of each message and of the whole; counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, messages: Sequence[Message]) -> int:
        self.calls += 1
        return OPENING_TOKENS + sum(LAYOUT_TOKENS + len(message.content) for message in messages)


def count(messages: Sequence[Message]) -> int:
    return CharacterCount()(messages)


contents = st.integers(0, 9).map("x".__mul__)
anything = st.tuples(
    st.lists(st.builds(Message, st.sampled_from(["system", "user", "assistant"]), contents), max_size=12),
    st.builds(Message, st.just("user"), contents),
).map(lambda parts: [*parts[0], parts[1]])


@st.composite
def alternating(draw: st.DrawFn) -> list[Message]:
    """Perhaps a system message, perhaps a greeting, then user and assistant in turn."""
    opening = draw(st.sampled_from([[], ["system"], ["assistant"], ["system", "assistant"]]))
    roles = [*opening, *["user", "assistant"] * draw(st.integers(0, 12)), "user"]
    return [Message(role, draw(contents)) for role in roles]


def without_systems(conversation: Sequence[Message]) -> list[Message]:
    return [message for message in conversation if message.role != "system"]


def split_turns(conversation: Sequence[Message]) -> list[list[Message]]:
    """The turns, oldest first, by the definition read literally."""
    turns: list[list[Message]] = []
    for message in without_systems(conversation):
        if message.role == "user" or not turns:
            turns.append([])
        turns[-1].append(message)
    return turns


@pytest.mark.slow
@given(anything)
def test_the_oldest_turns_go_until_it_fits_and_not_one_more(conversation: list[Message]) -> None:
    systems = [message for message in conversation if message.role == "system"]
    turns = split_turns(conversation)
    # By exhaustion: what stays without the first 0, 1, 2 … turns, and limits just where each begins to fit.
    candidates = [list(chain(*turns[drops:])) for drops in range(len(turns))]
    for said in candidates:
        size = count(systems + said)
        counter = CharacterCount()
        truncation = truncate_oldest(conversation, counter, size)
        left = list(truncation.messages)
        assert without_systems(left) == said
        assert [message for message in left if message.role == "system"] == systems
        assert truncation.dropped_messages == len(conversation) - len(left)
        assert truncation.dropped_tokens == count(conversation) - size
        assert counter.calls <= 2 + ceil(log2(len(turns)))
    with pytest.raises(RequestError) as refusal:
        truncate_oldest(conversation, count, size - 1)
    assert refusal.value.reason is Reason.CONTEXT_OVERFLOW
    assert refusal.value.numbers == {
        "prompt_tokens": count(conversation),
        "least_prompt_tokens": size,
        "most_prompt_tokens": size - 1,
    }


@pytest.mark.slow
@given(anything)
def test_what_stays_keeps_its_order(conversation: list[Message]) -> None:
    numbered = [Message(message.role, str(index)) for index, message in enumerate(conversation)]
    least = count([numbered[-1], *(message for message in numbered if message.role == "system")])
    left = [int(message.content) for message in truncate_oldest(numbered, count, least).messages]
    assert left == sorted(left)


@pytest.mark.slow
@given(alternating(), st.integers(0, 200))
def test_roles_alternate_as_they_did_and_begin_with_the_user(conversation: list[Message], most_tokens: int) -> None:
    least = count([message for message in conversation if message.role == "system"] + conversation[-1:])
    truncation = truncate_oldest(conversation, count, max(most_tokens, least))
    said = without_systems(truncation.messages)
    assert all(first.role != second.role for first, second in pairwise(said))
    if truncation.dropped_messages:
        assert said[0].role == "user"


def test_what_fits_is_left_alone_and_counted_once() -> None:
    conversation = [Message("user", "Hi")]
    counter = CharacterCount()
    truncation = truncate_oldest(conversation, counter, count(conversation))
    assert (truncation.messages, truncation.dropped_messages, truncation.dropped_tokens) == (conversation, 0, 0)
    assert counter.calls == 1


def test_a_count_that_does_not_shrink_with_the_turns_still_ends_with_one_that_fits() -> None:
    conversation = [Message("user", str(index)) for index in range(9)]
    tokens_by_length = [0, 5, 50, 5, 50, 5, 50, 5, 50, 50]
    truncation = truncate_oldest(conversation, lambda kept: tokens_by_length[len(kept)], 10)
    assert tokens_by_length[len(truncation.messages)] == 5
    assert truncation.dropped_tokens == 45


def test_the_refusal_says_what_there_is_and_what_could_be() -> None:
    conversation = [Message("user", "xx"), Message("assistant", "x"), Message("user", "x" * 20)]
    with pytest.raises(RequestError, match=r"has 36 tokens, and 27 with only .* expected at most 26"):
        truncate_oldest(conversation, count, 26)


LONG = [
    Message("system", "wind"),
    *(Message(role, f"the wind is cold {turn}") for turn in range(5) for role in ("user", "assistant")),
    Message("user", "the end"),
]


def check_on_a_real_format(chat: ChatFormat, sizes: list[int]) -> None:
    def encoded(messages: Sequence[Message]) -> int:
        return len(chat.encode(Conversation(messages)).token_ids)

    for most_tokens in sizes:
        truncation = truncate_oldest(LONG, encoded, most_tokens)
        assert encoded(truncation.messages) <= most_tokens
        assert truncation.messages[0] == LONG[0]
        assert truncation.messages[-1] == LONG[-1]
        assert truncation.dropped_messages % 2 == 0


def test_a_chat_template_that_wants_alternation_takes_what_is_left(
    chatml: str, byte_level_tokenizer: JsonTokenizer
) -> None:
    strict = (
        "{% for m in messages %}{% if not loop.first and (m.role == 'user') != (loop.index0 % 2 == 1) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}" + chatml
    )
    chat = JinjaChat(ChatTemplate(strict, variables={}), strict, byte_level_tokenizer)
    sizes = sorted(len(chat.encode(Conversation([LONG[0], *LONG[start:]])).token_ids) for start in (1, 3, 5, 7, 9, 11))
    check_on_a_real_format(chat, [sizes[-1] - 1, *sizes])


@pytest.mark.slow
def test_mistrals_own_format_takes_what_is_left(tekken_folder: Path, tekken_bundle: bundle_pb2.Bundle) -> None:
    chat = load_chat_format(tekken_folder, tekken_bundle, load_tokenizer(tekken_folder, tekken_bundle))
    least = len(chat.encode(Conversation([LONG[0], LONG[-1]])).token_ids)
    check_on_a_real_format(chat, [least, least + 20, least + 40])
