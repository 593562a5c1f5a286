"""Tools through a checkpoint's own template: what others wrote stays literal, and calls have the template's syntax."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bise_daemon.chat.calls.call import CallDelta
from bise_daemon.chat.calls.llama import LlamaCalls
from bise_daemon.chat.calls.mistral import ListedCalls, NamedCalls
from bise_daemon.chat.calls.syntax import syntax_of_template
from bise_daemon.chat.calls.tagged import TaggedCalls
from bise_daemon.chat.conversation import Conversation
from bise_daemon.chat.jinja import JinjaChat
from bise_daemon.chat.json_tokenizer import AddedToken, JsonTokenizer
from bise_daemon.chat.message import Message, ToolCall
from bise_daemon.chat.template import ChatTemplate
from bise_daemon.chat.tool import Tool, ToolChoice, ToolMode
from bise_daemon.errors import Reason, RequestError
from golden import conversations

TEMPLATES = Path(conversations.__file__).parent / "chats"
HERMES = (TEMPLATES / "hermes.jinja").read_text(encoding="utf-8")
LLAMA = (TEMPLATES / "llama3.jinja").read_text(encoding="utf-8")
# Looks into schemas, as templates that write TypeScript do.
PEEKING = (
    "{% for tool in tools %}<|im_start|>{{ tool.function.name }}"
    "{% for key, value in tool.function.parameters.properties.items() %}"
    "{% if value.type == 'string' %} s{% endif %} {{ key }}"
    "{% if key in tool.function.parameters.get('required', []) %}!{% endif %}{% endfor %}<|im_end|>{% endfor %}"
    '<tool_call></tool_call>"arguments"{{ messages[0].content }}'
)

fragments = st.lists(
    st.sampled_from(
        ["<|im_end|>", "<|im_start|>", "<|im_", "end|>", "<tool_call>", "|>", '"', "}", " ", "wind", "é🤗"]
    ),
    max_size=6,
).map("".join)


def chat(source: str, tokenizer: JsonTokenizer) -> JinjaChat:
    return JinjaChat(ChatTemplate(source, variables={"bos_token": "<s>"}), source, tokenizer)


def conversation(text: str) -> Conversation:
    call = ToolCall("1", "clock", {text: [text, {"x": text}]})
    return Conversation(
        [
            Message("user", text),
            Message("assistant", text, [call]),
            Message("tool", text, tool_call_id="1", name="clock"),
        ],
        [Tool("clock", text, {"type": "object", "properties": {text: {"type": "string", "enum": [text]}}})],
    )


def controls(tokenizer: JsonTokenizer, token_ids: list[int]) -> list[int]:
    return [token_id for token_id in token_ids if token_id in tokenizer.special_ids]


@pytest.mark.parametrize("source", [HERMES, LLAMA])
@given(text=fragments)
def test_nothing_that_others_wrote_becomes_a_control_token(
    byte_level_tokenizer: JsonTokenizer, source: str, text: str
) -> None:
    target = chat(source, byte_level_tokenizer)
    hostile = target.encode(conversation(text))
    harmless = target.encode(conversation("wind"))
    assert controls(byte_level_tokenizer, hostile.token_ids) == controls(byte_level_tokenizer, harmless.token_ids)
    assert b"".join(map(byte_level_tokenizer.token_bytes, hostile.token_ids)).decode() == hostile.text


def test_a_template_that_looks_into_schemas_is_served_and_can_not_be_fooled(
    byte_level_tokenizer: JsonTokenizer,
) -> None:
    target = chat(PEEKING, byte_level_tokenizer)

    def asked(key: str) -> Conversation:
        schema = {"type": "object", "properties": {key: {"type": "string"}}, "required": [key]}
        return Conversation([Message("user", "Hi")], [Tool("f", "", schema)])

    assert target.encode(asked("place")).text.startswith("<|im_start|>f s place!<|im_end|>")
    with pytest.raises(RequestError, match="apart from control tokens"):
        target.encode(asked("<|im_end|>"))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"tools": [Tool("f", "a\ufdd0")]}, "tools[0].description"),
        ({"tools": [Tool("f", "", {"properties": {"\ufdd1": {}}})]}, "tools[0].parameters"),
        ({"messages": [Message("user", "\ufdd2")]}, "messages[0].content"),
        ({"tools": [Tool("f\ufdd0")]}, "tools[0].name"),
    ],
)
def test_the_guards_own_characters_are_refused_by_field(
    byte_level_tokenizer: JsonTokenizer, changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(RequestError) as refusal:
        chat(HERMES, byte_level_tokenizer).encode(Conversation(**{"messages": [Message("user", "Hi")]} | changes))
    assert refusal.value.numbers["field"] == field


def test_a_template_that_escapes_its_way_out_is_contained(byte_level_tokenizer: JsonTokenizer) -> None:
    source = HERMES + "{{ tools.__class__.__mro__ }}"
    with pytest.raises(RequestError, match=r"takes, got: .*unsafe"):
        chat(source, byte_level_tokenizer).encode(conversation("wind"))
    looping = HERMES + "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}"
    with pytest.raises(RequestError, match="at most 1000000 steps"):
        chat(looping, byte_level_tokenizer).encode(conversation("wind"))


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("{{ messages[0].content }}", "without tools"),
        ("{{ tools }}{{ messages[0].content }}", "of another way"),
        ('{{ tools }}<tool_call></tool_call>"arguments"<function=', "of another way"),
    ],
)
def test_a_template_without_a_known_way_refuses_tools(
    byte_level_tokenizer: JsonTokenizer, source: str, what: str
) -> None:
    target = chat(source, byte_level_tokenizer)
    for spoken in (
        Conversation([Message("user", "Hi")], [Tool("f")]),
        Conversation([Message("assistant", "", [ToolCall("1", "f", {})]), Message("tool", "", tool_call_id="1")]),
    ):
        with pytest.raises(RequestError, match=f"got one with a chat template {what}") as refusal:
            target.encode(spoken)
        assert refusal.value.reason is Reason.TOOLS_UNSUPPORTED
    silent = Conversation([Message("user", "Hi")], [Tool("f")], ToolChoice(ToolMode.NONE))
    assert "Hi" in target.encode(silent).text or "{{" not in target.encode(silent).text


@pytest.mark.parametrize(
    ("source", "parser"),
    [
        (HERMES, TaggedCalls),
        (LLAMA, LlamaCalls),
        ("[TOOL_CALLS]", ListedCalls),
        ("[TOOL_CALLS][ARGS]", NamedCalls),
        ("[TOOL_CALLS][CALL_ID][ARGS]", NamedCalls),
    ],
)
def test_the_syntax_is_told_by_what_a_template_spells(source: str, parser: type) -> None:
    syntax = syntax_of_template(source, [])
    assert syntax is not None
    assert syntax.parser is parser
    assert syntax.openings == set()


def test_marks_are_special_tokens_and_openings_may_be_others() -> None:
    added = [AddedToken(7, "<tool_call>", special=False), AddedToken(8, "</tool_call>", special=True)]
    syntax = syntax_of_template(HERMES, added)
    assert syntax is not None
    assert (syntax.marks, syntax.openings) == ({8: "</tool_call>"}, {7})
    python = syntax_of_template(LLAMA, [AddedToken(9, "<|python_tag|>", special=True)])
    assert python is not None
    assert (python.marks, python.openings) == ({9: "<|python_tag|>"}, set())


def test_a_prompt_brings_what_reads_its_answer(byte_level_tokenizer: JsonTokenizer) -> None:
    target = chat(HERMES, byte_level_tokenizer)
    prompt = target.encode(Conversation([Message("user", "Hi")], [Tool("f")]))
    (found,) = prompt.calls.push('<tool_call>{"name": "f", "arguments": {}}</tool_call>')
    assert isinstance(found, CallDelta)
    assert (found.name, found.arguments) == ("f", "{}")
    plain = target.encode(Conversation([Message("user", "Hi")]))
    assert plain.calls.push("<tool_call>") == ["<tool_call>"]
    assert plain.grammar is None
    required = Conversation([Message("user", "Hi")], [Tool("f")], ToolChoice(ToolMode.REQUIRED))
    grammar = target.encode(required).grammar
    assert grammar is not None
    assert grammar.required


@pytest.mark.parametrize(
    ("content", "source", "text"),
    [
        ("It is ", "{{ messages[0].content }}<|im_end|>", "It is "),
        ("It is ", "{{ messages[0].content | trim }}<|im_end|>", "It is"),
        ("It is", "{{ messages[0].content }} {{ messages[0].content }}!", "It is It is"),
    ],
)
def test_a_text_is_gone_on_from_where_it_ends(
    byte_level_tokenizer: JsonTokenizer, content: str, source: str, text: str
) -> None:
    spoken = Conversation([Message("assistant", content)], continues=True)
    assert chat(source, byte_level_tokenizer).encode(spoken).text == text


def test_a_template_that_hides_the_last_text_can_not_go_on_from_it(byte_level_tokenizer: JsonTokenizer) -> None:
    with pytest.raises(RequestError, match="continue_final_message: expected a chat template that writes"):
        chat("{{ messages[0].role }}", byte_level_tokenizer).encode(
            Conversation([Message("assistant", "It is")], continues=True)
        )
