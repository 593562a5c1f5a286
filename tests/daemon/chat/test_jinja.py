"""Chat templates end to end: the prompt is the whole text's encoding, and contents stay literal."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from bise_daemon.chat.conversation import Conversation
from bise_daemon.chat.jinja import JinjaChat
from bise_daemon.chat.json_tokenizer import JsonTokenizer
from bise_daemon.chat.message import Message
from bise_daemon.chat.template import ChatTemplate
from bise_daemon.errors import Reason, RequestError

START, END = 1, 2
MakeChat = Callable[..., JinjaChat]

# Fragments that, put together or beside the template's own, may spell a control token.
fragments = st.lists(
    st.sampled_from(["<|im_end|>", "<|im_start|>", "<|im_", "end|>", "<", "|>", "<|", " ", "\n", "the wind", "é🤗"]),
    max_size=8,
).map("".join)


@pytest.fixture(scope="session")
def make_chat(byte_level_tokenizer: JsonTokenizer) -> MakeChat:
    def make(source: str, tokenizer: JsonTokenizer = byte_level_tokenizer) -> JinjaChat:
        return JinjaChat(ChatTemplate(source, variables={}), source, tokenizer)

    return make


@pytest.fixture(scope="session")
def chat(make_chat: MakeChat, chatml: str) -> JinjaChat:
    return make_chat(chatml)


def control_ids(tokenizer: JsonTokenizer, token_ids: list[int]) -> list[int]:
    control = {token.token_id for token in tokenizer.added_tokens if token.special}
    return [token_id for token_id in token_ids if token_id in control]


@given(contents=st.lists(st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=20), min_size=1, max_size=3))
def test_a_harmless_chat_is_the_encoding_of_the_whole_text(
    chat: JinjaChat, byte_level: Tokenizer, contents: list[str]
) -> None:
    prompt = chat.encode(Conversation([Message("user", content) for content in contents]))

    turns = "".join(f"<|im_start|>user\n{content}<|im_end|>\n" for content in contents)
    assert prompt.text == f"{turns}<|im_start|>assistant\n"
    assert prompt.token_ids == byte_level.encode(prompt.text).ids


@given(contents=st.lists(fragments, min_size=1, max_size=3))
def test_contents_never_become_control_tokens(
    chat: JinjaChat, byte_level_tokenizer: JsonTokenizer, contents: list[str]
) -> None:
    prompt = chat.encode(Conversation([Message("user", content) for content in contents]))

    assert control_ids(byte_level_tokenizer, prompt.token_ids) == [*[START, END] * len(contents), START]
    assert b"".join(map(byte_level_tokenizer.token_bytes, prompt.token_ids)).decode() == prompt.text


def test_contents_never_become_control_tokens_with_byte_fallback(
    make_chat: MakeChat, metaspace_tokenizer: JsonTokenizer
) -> None:
    chat = make_chat("<s>{% for m in messages %}{{ m.content }}</s>{% endfor %}", metaspace_tokenizer)

    prompt = chat.encode(Conversation([Message("user", "the</s>wind <s>")]))

    assert control_ids(metaspace_tokenizer, prompt.token_ids) == [1, 2]
    assert prompt.text == "<s>the</s>wind <s></s>"
    spelled = b"".join(map(metaspace_tokenizer.token_bytes, prompt.token_ids)).decode()
    assert spelled.replace(" ", "") == prompt.text.replace(" ", "")


@pytest.mark.parametrize("first", ["a <|im_st", "a <|im_st "])
def test_contents_that_the_template_joins_do_not_make_a_control_token(
    make_chat: MakeChat, byte_level_tokenizer: JsonTokenizer, first: str
) -> None:
    chat = make_chat("{{ messages[0].content | trim }}{{ messages[1].content | trim }}<|im_end|>")

    prompt = chat.encode(Conversation([Message("system", first), Message("user", "art|>")]))

    assert prompt.text == "a <|im_start|><|im_end|>"
    assert control_ids(byte_level_tokenizer, prompt.token_ids) == [END]


def test_an_added_token_of_the_template_counts_as_control(
    make_chat: MakeChat, byte_level_tokenizer: JsonTokenizer
) -> None:
    think = byte_level_tokenizer.encode("<think>")
    spelling = make_chat("{{ messages[0].content }}<think>").encode(Conversation([Message("user", "<think>")]))
    ignorant = make_chat("{{ messages[0].content }}").encode(Conversation([Message("user", "<think>")]))

    assert len(think) == 1
    assert spelling.token_ids.count(think[0]) == 1
    assert ignorant.token_ids == think


SPLITTING = (
    "{% for m in messages %}<|im_start|>{{ m.content.split('</think>')[-1].lstrip('\\n') }}<|im_end|>{% endfor %}"
)


def test_a_template_that_cuts_contents_is_served(make_chat: MakeChat, byte_level_tokenizer: JsonTokenizer) -> None:
    prompt = make_chat(SPLITTING).encode(Conversation([Message("user", "hm</think>\nthe wind")]))

    assert prompt.text == "<|im_start|>the wind<|im_end|>"
    assert prompt.token_ids == byte_level_tokenizer.encode(prompt.text)


@pytest.mark.parametrize(
    ("template", "content"),
    [(SPLITTING, "hm</think>the <|im_end|> wind"), ("{{ messages[0].content[1:] }}", "x<|im_end|>")],
)
def test_what_can_not_be_told_apart_is_refused(make_chat: MakeChat, template: str, content: str) -> None:
    with pytest.raises(RequestError, match=r"expected contents that .* apart from control tokens") as refusal:
        make_chat(template).encode(Conversation([Message("user", content)]))
    assert refusal.value.reason is Reason.INVALID_MESSAGE


def test_a_template_that_deletes_characters_can_not_be_made_to_spell_a_control_token(
    make_chat: MakeChat, byte_level_tokenizer: JsonTokenizer
) -> None:
    chat = make_chat("{{ messages[0].content | replace('#', '') }}<|im_end|>")

    prompt = chat.encode(Conversation([Message("user", "<|im#_start|>")]))

    assert control_ids(byte_level_tokenizer, prompt.token_ids) == [END]


@pytest.mark.parametrize("guard", ["\ufdd0", "\ufdd1"])
def test_the_guards_own_characters_are_refused_by_field(chat: JinjaChat, guard: str) -> None:
    with pytest.raises(RequestError, match=r"messages\[1\]\.content: expected text without the noncharacter U\+FDD"):
        chat.encode(Conversation([Message("system", ""), Message("user", f"a{guard}b")]))


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([], "messages"),
        ([Message("user", "x")] * 1025, "messages"),
        ([Message("judge", "x"), Message("user", "x")], r"messages\[0\].role"),
        ([Message("user", "x"), Message("assistant", "y")], r"messages\[1\].role"),
    ],
)
def test_messages_out_of_shape_are_refused_by_field(chat: JinjaChat, messages: list[Message], field: str) -> None:
    with pytest.raises(RequestError, match=f"^INVALID_MESSAGE: {field}: expected .* got") as refusal:
        chat.encode(Conversation(messages))
    assert refusal.value.numbers["field"] == field.replace("\\", "")
