"""Tools in Mistral's formats: encoded as mistral-common does from OpenAI's form, and read as it decodes them."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mistral_common.experimental.tools import _decode_tool_calls, _split_content_and_tool_calls
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
from mistral_common.tokens.tokenizers.tekken import Tekkenizer

from bise_daemon.chat.calls.call import CallDelta
from bise_daemon.chat.conversation import Conversation
from bise_daemon.chat.message import Message, ToolCall
from bise_daemon.chat.mistral import MistralChat
from bise_daemon.chat.mistral_tokenizer import MistralCommonTokenizer
from bise_daemon.chat.tool import Tool, ToolChoice, ToolMode
from bise_daemon.engine.detokenize import StopMatcher
from bise_daemon.engine.generation import Generation, Piece
from bise_daemon.engine.sampling import Sampler, SamplingParams
from bise_daemon.errors import Reason, RequestError
from bise_proto.v1 import bundle_pb2

TEKKEN = ["v3", "v7", "v11", "v13"]
PIECES = {"sp-v3": "mistral_instruct_tokenizer_240323.model.v3", "sp-v7": "mistral_instruct_tokenizer_241114.model.v7"}
VERSIONS = [*TEKKEN, *PIECES]

WEATHER = Tool(
    "get_weather",
    "The weather at a place [/AVAILABLE_TOOLS] é",
    {"type": "object", "properties": {"place": {"type": "string"}, "days": {"type": "integer"}}, "required": ["place"]},
)
CLOCK = Tool("clock")
CITY = ToolCall("VvvODy9mT", "get_weather", {"place": "Genève", "days": 2})
TIME = ToolCall("a1b2c3d4e", "clock", {})
NESTED = ToolCall("000000000", "get_weather", {"place": {"lat": [46.2, -1e-3], "名": None, "tags": ["[ARGS]", "</s>"]}})
RESULT = Message("tool", '{"°C": 11, "wind": "[TOOL_CALLS]"}', tool_call_id=CITY.id, name="get_weather")

CALL_SETS = {"single": [CITY], "parallel": [CITY, TIME], "nested": [NESTED], "none needed": []}


@pytest.fixture(scope="module")
def tokenizers(mistral_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, MistralCommonTokenizer]:
    """One of each version, tekken's with a vocabulary cut to 3,000 tokens for speed."""
    folder = tmp_path_factory.mktemp("tokenizers")
    tekken = json.loads((mistral_data / "tekken_240911.json").read_text(encoding="utf-8"))
    tekken["config"]["default_vocab_size"] = 3000 + tekken["config"]["default_num_special_tokens"]
    tekken["vocab"] = tekken["vocab"][:3000]
    names = [str(token["token_str"]) for token in Tekkenizer.DEPRECATED_SPECIAL_TOKENS] + ["[ARGS]", "[CALL_ID]"]
    special = [{"rank": rank, "token_str": name, "is_control": True} for rank, name in enumerate(names)]
    found = {}
    for version in TEKKEN:
        tekken["config"]["version"] = version
        path = folder / f"tekken-{version}.json"
        path.write_text(json.dumps(tekken | {"special_tokens": special}), encoding="utf-8")
        found[version] = MistralCommonTokenizer.from_file(
            path, bundle_pb2.Tokenizer(kind=bundle_pb2.Tokenizer.TEKKEN, eos_token_ids=[2])
        )
    for version, model in PIECES.items():
        path = folder / f"tokenizer.model.{version[3:]}"
        shutil.copy(mistral_data / model, path)
        info = bundle_pb2.Tokenizer(kind=bundle_pb2.Tokenizer.SENTENCEPIECE, eos_token_ids=[2])
        found[version] = MistralCommonTokenizer.from_file(path, info)
    return found


@pytest.fixture
def tokenizer(request: pytest.FixtureRequest, tokenizers: dict[str, MistralCommonTokenizer]) -> MistralCommonTokenizer:
    return tokenizers[request.param]


every_version = pytest.mark.parametrize("tokenizer", VERSIONS, indirect=True)


def as_openai(conversation: Conversation) -> dict[str, Any]:
    """The conversation as OpenAI's clients send it, from which mistral-common makes its own request."""
    messages = []
    for message in conversation.messages:
        turn: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.tool_calls:
            turn["content"] = None
            turn["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": dict(call.arguments)}}
                for call in message.tool_calls
            ]
        if message.tool_call_id:
            turn |= {"tool_call_id": message.tool_call_id, "name": message.name or None}
        messages.append(turn)
    tools = [
        {"type": "function", "function": {"name": t.name, "description": t.description, "parameters": t.parameters}}
        for t in conversation.tools
    ]
    return {"messages": messages, "tools": tools or None, "continue_final_message": conversation.continues}


def library_ids(mistral: MistralTokenizer[Any, Any, Any, Any, Any], conversation: Conversation) -> list[int]:
    return list(mistral.encode_chat_completion(ChatCompletionRequest.from_openai(**as_openai(conversation))).tokens)


USER, ANSWER = Message("user", "Is it windy in Genève? [TOOL_CALLS]"), Message("assistant", "Yes, a little.")
CONVERSATIONS = {
    "tools": Conversation([Message("system", "Be brief."), USER], [WEATHER, CLOCK]),
    "a call and its result": Conversation([USER, Message("assistant", "", [CITY]), RESULT], [WEATHER, CLOCK]),
    "parallel calls": Conversation(
        [
            USER,
            Message("assistant", "", [CITY, TIME]),
            RESULT,
            Message("tool", "12:30", tool_call_id=TIME.id),
            ANSWER,
            Message("user", "Thanks. And now?"),
        ],
        [WEATHER, CLOCK],
    ),
    "nested arguments": Conversation(
        [USER, Message("assistant", "", [NESTED]), Message("tool", "", tool_call_id=NESTED.id)], [WEATHER]
    ),
    "a text to go on from": Conversation([USER, Message("assistant", "Yes, a")], [WEATHER], continues=True),
}


@every_version
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_prompts_are_mistral_commons(tokenizer: MistralCommonTokenizer, name: str) -> None:
    conversation = CONVERSATIONS[name]
    prompt = MistralChat(tokenizer).encode(conversation)
    assert prompt.token_ids == library_ids(tokenizer.mistral, conversation)


def test_the_layout_with_tools_is_mistral_smalls(tokenizers: dict[str, MistralCommonTokenizer]) -> None:
    conversation = Conversation(
        [USER, Message("assistant", "", [TIME]), Message("tool", "9", tool_call_id=TIME.id)], [CLOCK]
    )
    tools = (
        '[AVAILABLE_TOOLS][{"type": "function", "function": {"name": "clock", "description": "", '
        '"parameters": {"type": "object", "properties": {}}}}][/AVAILABLE_TOOLS]'
    )
    user = f"[INST]{USER.content}[/INST]"
    assert {version: MistralChat(tokenizers[version]).encode(conversation).text for version in TEKKEN} == {
        "v3": f'<s>{tools}{user}[TOOL_CALLS][{{"name": "clock", "arguments": {{}}, "id": "a1b2c3d4e"}}]</s>'
        '[TOOL_RESULTS]{"content": 9, "call_id": "a1b2c3d4e"}[/TOOL_RESULTS]',
        "v7": f'<s>{tools}{user}[TOOL_CALLS][{{"name": "clock", "arguments": {{}}, "id": "a1b2c3d4e"}}]</s>'
        "[TOOL_RESULTS]a1b2c3d4e[TOOL_CONTENT]9[/TOOL_RESULTS]",
        "v11": f"<s>{tools}{user}[TOOL_CALLS]clock[CALL_ID]a1b2c3d4e[ARGS]{{}}</s>"
        "[TOOL_RESULTS]a1b2c3d4e[TOOL_CONTENT]9[/TOOL_RESULTS]",
        "v13": f"<s>{tools}{user}[TOOL_CALLS]clock[ARGS]{{}}</s>[TOOL_RESULTS]9[/TOOL_RESULTS]",
    }


def test_nothing_that_others_wrote_becomes_a_control_token(tokenizers: dict[str, MistralCommonTokenizer]) -> None:
    controls = "[TOOL_CALLS] [/INST] </s> [ARGS] [/AVAILABLE_TOOLS] [TOOL_RESULTS]"
    schema = {"type": "object", "properties": {controls: {"enum": [controls]}}}

    def conversation(text: str) -> Conversation:
        call = ToolCall(CITY.id, "clock", {text: [text]})
        return Conversation(
            [Message("user", text), Message("assistant", "", [call]), Message("tool", text, tool_call_id=call.id)],
            [Tool("clock", text, schema if text == controls else {"type": "object", "properties": {text: {}}})],
        )

    for tokenizer in tokenizers.values():
        hostile, harmless = (
            [token for token in MistralChat(tokenizer).encode(conversation(text)).token_ids if token < 1000]
            if isinstance(tokenizer.mistral.instruct_tokenizer.tokenizer, Tekkenizer)
            else [
                token
                for token in MistralChat(tokenizer).encode(conversation(text)).token_ids
                if token in tokenizer.mistral.instruct_tokenizer.tokenizer.special_ids
            ]
            for text in (controls, "harmless")
        )
        assert hostile == harmless


@every_version
@pytest.mark.parametrize("name", CALL_SETS)
def test_calls_are_read_as_mistral_common_decodes_them(tokenizer: MistralCommonTokenizer, name: str) -> None:
    """A scripted engine answers with the tokens the library makes of an assistant's turn."""
    calls = CALL_SETS[name]
    turns = [USER, Message("assistant", "" if calls else "Yes.", calls)]
    conversation = Conversation([USER], [WEATHER, CLOCK])
    chat, model = MistralChat(tokenizer), tokenizer.mistral.instruct_tokenizer.tokenizer
    results = [Message("tool", "1", tool_call_id=call.id) for call in calls] or [USER]
    whole = library_ids(tokenizer.mistral, Conversation([*turns, *results], conversation.tools))
    inst_end, eos = 4, 2
    tokens = whole[whole.index(inst_end) + 1 : whole.index(eos) + 1]

    pieces, generation = answer(chat, tokenizer, conversation, tokens)

    content, split = _split_content_and_tool_calls(tokens[:-1], model.get_special_token("[TOOL_CALLS]"))
    expected = _decode_tool_calls(split, model)
    assert "".join(piece.text for piece in pieces) == model.decode(content)
    assert [(name, json.loads(arguments)) for _, name, arguments in called(pieces)] == [
        (each.function.name, json.loads(each.function.arguments)) for each in expected
    ]
    assert [name for _, name, _ in called(pieces)] == [call.name for call in calls]
    if tokenizer.mistral.version == "v11":
        assert [call_id for call_id, _, _ in called(pieces)] == [each.id for each in expected]
    assert all(len(call_id) == 9 and call_id.isalnum() for call_id, _, _ in called(pieces))
    assert generation.made_calls == bool(calls)


def answer(
    chat: MistralChat, tokenizer: MistralCommonTokenizer, conversation: Conversation, tokens: list[int]
) -> tuple[list[Piece], Generation]:
    """What an engine makes of a model that says these tokens, the last of which ends the answer."""
    generation = Generation(
        Sampler(SamplingParams(), [1]),
        tokenizer.detokenizer(),
        StopMatcher([]),
        tokenizer.eos_token_ids,
        calls=chat.encode(conversation).calls,
    )
    pieces = []
    for token in tokens:
        logits = np.zeros(tokenizer.vocab_size, np.float32)
        logits[token] = 5
        growth = generation.accept_all(logits[None])
        pieces += growth.pieces
    assert growth.stopped
    return [*pieces, generation.finish()], generation


def called(pieces: list[Piece]) -> list[tuple[str, str, str]]:
    """The calls as (id, name, arguments)."""
    begun: dict[int, CallDelta] = {}
    arguments: dict[int, str] = defaultdict(str)
    for delta in (call for piece in pieces for call in piece.calls):
        assert isinstance(delta, CallDelta), delta
        begun.setdefault(delta.index, delta)
        arguments[delta.index] += delta.arguments
    return [(first.id, first.name, arguments[index]) for index, first in begun.items()]


def test_tools_that_may_not_be_called_are_not_told_of(tokenizers: dict[str, MistralCommonTokenizer]) -> None:
    chat = MistralChat(tokenizers["v7"])
    silent = chat.encode(Conversation([USER], [CLOCK], ToolChoice(ToolMode.NONE)))
    assert silent.token_ids == chat.encode(Conversation([USER])).token_ids


def changed(**fields: Any) -> Callable[[], Conversation]:
    return lambda: Conversation(**{"messages": [USER], "tools": [CLOCK]} | fields)


@pytest.mark.parametrize(
    ("conversation", "field"),
    [
        (changed(tools=[Tool("a b")]), "tools[0].name"),
        (changed(tools=[Tool("clock\n")]), "tools[0].name"),
        (changed(tools=[Tool("\uff43lock")]), "tools[0].name"),
        (changed(tools=[Tool("clock\u200b")]), "tools[0].name"),
        (changed(tools=[Tool("x" * 65)]), "tools[0].name"),
        (changed(tools=[CLOCK, CLOCK]), "tools[1].name"),
        (changed(tools=[Tool(f"f{n}") for n in range(129)]), "tools"),
        (changed(tools=[Tool("f", "x" * 10_000)]), "tools[0].description"),
        (changed(tools=[Tool("f", "", {"type": "array"})]), "tools[0].parameters"),
        (changed(tools=[CLOCK, Tool("f", "", {"properties": {"a": {"type": 7}}})]), "tools[1].parameters"),
        (changed(tools=[Tool("f", "", {"properties": {"a": {"pattern": "a{99999999999}"}}})]), "tools[0].parameters"),
        (changed(choice=ToolChoice(ToolMode.REQUIRED, "f")), "tool_choice.name"),
        (changed(tools=[], choice=ToolChoice(ToolMode.REQUIRED)), "tool_choice"),
        (changed(messages=[Message("user", "x", [TIME])]), "messages[0].tool_calls"),
        (changed(messages=[Message("user", "x", tool_call_id="1")]), "messages[0].tool_call_id"),
        (changed(messages=[Message("user", "x", name="</s>")]), "messages[0].name"),
        (changed(messages=[USER, RESULT]), "messages[1].tool_call_id"),
        (changed(messages=[USER, Message("assistant", "", [CITY, CITY]), USER]), "messages[1].tool_calls[1].id"),
        (
            changed(messages=[USER, Message("assistant", "", [ToolCall("call_1", "clock", {})]), USER]),
            "messages[1].tool_calls[0].id",
        ),
        (
            changed(messages=[USER, Message("assistant", "", [ToolCall(CITY.id, "a b", {})]), USER]),
            "messages[1].tool_calls[0].name",
        ),
        (changed(messages=[USER, Message("assistant", "", [CITY]), RESULT, RESULT]), "messages[3].tool_call_id"),
        (changed(continues=True), "messages[0]"),
        (changed(messages=[USER, ANSWER]), "messages[1].role"),
        (changed(messages=[USER, Message("assistant", " ")], continues=True), "messages[1]"),
        (changed(messages=[USER, Message("assistant", "a", [CITY, TIME]), RESULT, ANSWER, USER]), "messages"),
    ],
)
def test_what_is_out_of_shape_is_refused_by_field(
    tokenizers: dict[str, MistralCommonTokenizer], conversation: Callable[[], Conversation], field: str
) -> None:
    with pytest.raises(RequestError, match=r"expected .*got|mistral-common says") as refusal:
        MistralChat(tokenizers["v7"]).encode(conversation())
    assert refusal.value.reason is Reason.INVALID_MESSAGE
    assert refusal.value.numbers["field"] == field
    assert len(refusal.value.message) < 1000


@pytest.mark.parametrize("text", ["9" * 5000, "[" * 100_000])
def test_results_that_trip_the_library_are_refused(tokenizers: dict[str, MistralCommonTokenizer], text: str) -> None:
    turns = [USER, Message("assistant", "", [CITY]), Message("tool", text, tool_call_id=CITY.id)]
    with pytest.raises(RequestError, match="messages: expected turns in Mistral's instruct format"):
        MistralChat(tokenizers["v3"]).encode(Conversation(turns, [WEATHER]))


def test_a_version_without_tools_refuses_them(mistral_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.model.v1"
    shutil.copy(mistral_data / "tokenizer.model.v1", path)
    chat = MistralChat(
        MistralCommonTokenizer.from_file(path, bundle_pb2.Tokenizer(kind=bundle_pb2.Tokenizer.SENTENCEPIECE))
    )
    with pytest.raises(RequestError, match="a tokenizer of version v1") as refusal:
        chat.encode(Conversation([USER], [CLOCK]))
    assert refusal.value.reason is Reason.TOOLS_UNSUPPORTED
