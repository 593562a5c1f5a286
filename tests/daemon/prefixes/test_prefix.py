"""Which tokens of a named prefix hold whatever follows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from bise_daemon.chat.conversation import Conversation
from bise_daemon.chat.format import ChatFormat, NoChat, load_chat_format
from bise_daemon.chat.message import Message
from bise_daemon.chat.tokenizer import Tokenizer, load_tokenizer
from bise_daemon.prefixes.config import PrefixConfig
from bise_daemon.prefixes.prefix import encode_prefixes
from bise_proto.bundle import read_manifest

SYSTEM = "You are a car. Be brief."
TURNS = ["hello", "  indented", "42", "\nnew line", "été", "{}", "a longer turn, of several words", "<|im_end|>"]


@pytest.fixture(scope="module")
def tiny(tiny_bundle: Path) -> tuple[Tokenizer, ChatFormat]:
    bundle = read_manifest(tiny_bundle)
    tokenizer = load_tokenizer(tiny_bundle, bundle)
    return tokenizer, load_chat_format(tiny_bundle, bundle, tokenizer)


def chat_config(*turns: tuple[str, str], name: str = "car") -> PrefixConfig:
    messages = [{"role": role, "content": content} for role, content in turns]
    return PrefixConfig.model_validate({"name": name, "messages": messages})


def is_prefix(tokens: Sequence[int], of: Sequence[int]) -> bool:
    return list(of[: len(tokens)]) == list(tokens)


@pytest.mark.parametrize("turn", TURNS)
def test_a_system_message_is_what_its_chats_begin_with(tiny: tuple[Tokenizer, ChatFormat], turn: str) -> None:
    (prefix,) = encode_prefixes([chat_config(("system", SYSTEM))], *tiny)
    first = tiny[1].encode(Conversation([Message("system", SYSTEM), Message("user", turn)])).token_ids
    turns = [Message("system", SYSTEM), Message("user", turn), Message("assistant", "Yes."), Message("user", "And?")]
    later = tiny[1].encode(Conversation(turns)).token_ids
    # A turn that begins with space may merge with the template's end: one token at most.
    reusable = prefix.tokens[:-1] if turn[0].isspace() else prefix.tokens
    assert is_prefix(reusable, first)
    assert is_prefix(reusable, later)


def test_all_of_the_system_message_is_in_it(tiny: tuple[Tokenizer, ChatFormat]) -> None:
    tokenizer, chat = tiny
    (prefix,) = encode_prefixes([chat_config(("system", SYSTEM))], tokenizer, chat)
    detokenizer = tokenizer.detokenizer()
    assert SYSTEM in "".join(detokenizer.push(token) for token in prefix.tokens) + detokenizer.finish()


def test_turns_that_were_are_in_it_too(tiny: tuple[Tokenizer, ChatFormat]) -> None:
    turns = [("system", SYSTEM), ("user", "Who are you?"), ("assistant", "A car.")]
    (prefix,) = encode_prefixes([chat_config(*turns)], *tiny)
    whole = tiny[1].encode(Conversation([*(Message(*turn) for turn in turns), Message("user", "hello")])).token_ids
    shorter = tiny[1].encode(Conversation([Message(*turn) for turn in turns[:2]])).token_ids
    assert is_prefix(prefix.tokens, whole)
    assert len(prefix.tokens) > len(shorter)


def test_a_prompt_is_encoded_as_requests_are(tiny: tuple[Tokenizer, ChatFormat]) -> None:
    config = PrefixConfig(name="faq", prompt="Q: what is it?\nA:")
    (prefix,) = encode_prefixes([config], *tiny)
    assert (prefix.name, prefix.tokens) == ("faq", tiny[0].encode("Q: what is it?\nA:"))


class SameChat:
    """A chat format that begins with what the user says: nothing holds."""

    def encode(self, conversation: Conversation) -> object:
        return type("Prompt", (), {"token_ids": [*conversation.messages[-1].content.encode(), 1, 2, 3]})()


def test_what_cannot_be_encoded_is_left_out_and_the_rest_stays(
    tiny: tuple[Tokenizer, ChatFormat], caplog: pytest.LogCaptureFixture
) -> None:
    prompt = PrefixConfig(name="faq", prompt="Q: what is it?")
    prefixes = encode_prefixes([chat_config(("system", SYSTEM)), prompt], tiny[0], NoChat("base"))
    assert [prefix.name for prefix in prefixes] == ["faq"]
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith("prefix car: left out: CHAT_UNSUPPORTED: expected a model with a chat format")


def test_what_depends_on_the_user_from_the_start_is_left_out(
    tiny: tuple[Tokenizer, ChatFormat], caplog: pytest.LogCaptureFixture
) -> None:
    assert not encode_prefixes([chat_config(("system", SYSTEM))], tiny[0], SameChat())  # type: ignore[arg-type]
    assert "expected at least 2 tokens whatever follows, got 0" in caplog.text


def test_nobodys_words_are_in_a_log(tiny: tuple[Tokenizer, ChatFormat]) -> None:
    (prefix,) = encode_prefixes([chat_config(("system", SYSTEM))], *tiny)
    assert repr(prefix) == "Prefix(name='car')"
