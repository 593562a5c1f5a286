"""Protos to the daemon's own values and back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2

from bise_daemon.admission import Ask, Grant
from bise_daemon.chat.calls.call import CallDelta, MalformedCall
from bise_daemon.chat.message import Prompt, ToolCall
from bise_daemon.chat.tool import Tool, ToolChoice, ToolMode
from bise_daemon.engine.events import Drafts, Finish, Finished, Times
from bise_daemon.engine.generation import Piece
from bise_daemon.engine.sampling import Choice, SamplingParams
from bise_daemon.errors import Reason, RequestError
from bise_daemon.reception import Admitted
from bise_daemon.scheduler.request import Priority
from bise_daemon.wire import to_accepted, to_ask, to_delta, to_done, to_sampling, to_status
from bise_daemon.wire_chat import to_conversation
from bise_proto.v1 import inference_pb2


class Names:
    """As much of a tokenizer as a delta needs."""

    def token_bytes(self, token_id: int) -> bytes:
        return f"<{token_id}>".encode()


def details(status: status_pb2.Status) -> tuple[error_details_pb2.ErrorInfo, error_details_pb2.RetryInfo | None]:
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(info)
    assert len(status.details) == 1 or status.details[1].Unpack(retry)
    return info, retry if len(status.details) == 2 else None


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_code_and_comes_back(reason: Reason) -> None:
    status = to_status(RequestError(reason, "why.", numbers={"field": "x", "count": 3, "share": 0.5}))
    assert code_pb2.Code.Name(status.code) in grpc.StatusCode.__members__
    assert status.code not in (code_pb2.OK, code_pb2.UNKNOWN)
    assert status.message == "why."
    info, retry = details(status)
    assert (info.reason, info.domain) == (reason.value, "bise")
    assert dict(info.metadata) == {"field": "x", "count": "3", "share": "0.5"}
    assert retry is None


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (Reason.QUEUE_FULL, code_pb2.RESOURCE_EXHAUSTED),
        (Reason.BUDGET, code_pb2.RESOURCE_EXHAUSTED),
        (Reason.MEMORY, code_pb2.RESOURCE_EXHAUSTED),
        (Reason.DRAINING, code_pb2.UNAVAILABLE),
        (Reason.DEADLINE, code_pb2.DEADLINE_EXCEEDED),
        (Reason.CONTEXT_OVERFLOW, code_pb2.INVALID_ARGUMENT),
        (Reason.ENGINE_FAILED, code_pb2.INTERNAL),
    ],
)
def test_codes_tell_callers_whether_to_try_again(reason: Reason, code: int) -> None:
    assert to_status(RequestError(reason, "why.")).code == code


def test_when_to_try_again_is_told_in_milliseconds() -> None:
    _, retry = details(to_status(RequestError(Reason.QUEUE_FULL, "full.", retry_after_ms=1500)))
    assert retry is not None
    assert retry.retry_delay.ToMilliseconds() == 1500


@pytest.mark.parametrize(
    "letter", ["x", "é", "\N{CROISSANT}", "\ud800"], ids=["x", "e acute", "croissant", "surrogate"]
)
def test_a_message_fits_the_headers_it_travels_in(letter: str) -> None:
    status = to_status(RequestError(Reason.ENGINE_FAILED, letter * 100_000))
    assert len(status.message.encode()) <= 1003
    assert status.message.endswith("…")


def test_sampling_defaults_are_off() -> None:
    assert to_sampling(inference_pb2.Options(), seed=7) == SamplingParams(seed=7)


def test_sampling_is_what_was_asked() -> None:
    options = inference_pb2.Options(
        logprobs=True,
        top_logprobs=3,
        sampling=inference_pb2.Sampling(
            temperature=0.5,
            top_p=0.25,
            top_k=40,
            min_p=0.125,
            repetition_penalty=1.5,
            presence_penalty=0.75,
            frequency_penalty=-0.5,
            seed=0,
            logit_bias={5: -2.0},
        ),
    )
    assert to_sampling(options, seed=7) == SamplingParams(
        temperature=0.5,
        top_p=0.25,
        top_k=40,
        min_p=0.125,
        repetition_penalty=1.5,
        presence_penalty=0.75,
        frequency_penalty=-0.5,
        seed=0,
        logit_bias={5: -2.0},
        logprobs=True,
        top_logprobs=3,
    )


def test_a_field_set_to_zero_is_not_a_field_left_out() -> None:
    with pytest.raises(RequestError, match="top_p"):
        to_sampling(inference_pb2.Options(sampling=inference_pb2.Sampling(top_p=0.0)), seed=7)


def test_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(RequestError, match="temperature"):
        to_sampling(inference_pb2.Options(sampling=inference_pb2.Sampling(temperature=float("nan"))), seed=7)


def test_who_states_nothing_asks_for_nothing_but_patience() -> None:
    ask = to_ask(inference_pb2.Options(), 7, arrived_ms=100.0, deadline_ms=900.0)
    assert ask == Ask(7, 0, None, None, False, Priority.INTERACTIVE, 100.0, 900.0, None, None, None)
    assert not ask.states_budget


def test_what_is_stated_is_asked() -> None:
    options = inference_pb2.Options(
        max_tokens=20,
        min_granted_tokens=5,
        on_expiry=inference_pb2.FAIL,
        priority=inference_pb2.CRITICAL,
        budget=inference_pb2.Budget(total_ms=800, first_token_ms=300, per_token_ms=40),
    )
    ask = to_ask(options, 7, arrived_ms=100.0, deadline_ms=900.0)
    assert ask == Ask(7, 0, 20, 5, True, Priority.CRITICAL, 100.0, 900.0, 800, 300, 40)
    assert ask.states_budget


def test_a_budget_of_zero_is_stated_all_the_same() -> None:
    ask = to_ask(inference_pb2.Options(budget=inference_pb2.Budget(total_ms=0)), 7, 0.0, 0.0)
    assert (ask.total_ms, ask.first_token_ms, ask.states_budget) == (0, None, True)


@pytest.mark.parametrize("name", inference_pb2.Priority.keys())
def test_every_priority_is_a_class(name: str) -> None:
    options = inference_pb2.Options(priority=inference_pb2.Priority.Value(name))
    assert to_ask(options, 7, 0.0, 9.0).priority is Priority[name]


def test_a_priority_of_a_newer_sdk_is_refused_by_name() -> None:
    with pytest.raises(RequestError, match="priority: expected one of INTERACTIVE, CRITICAL, BACKGROUND, got 7") as no:
        to_ask(inference_pb2.Options(priority=7), 7, 0.0, 9.0)  # type: ignore[arg-type]
    assert (no.value.reason, no.value.numbers) == (Reason.INVALID_OPTION, {"field": "priority"})


def test_a_promise_tells_what_was_granted_predicted_found_and_left_out() -> None:
    ask = replace(to_ask(inference_pb2.Options(max_tokens=20), 7, 0.0, 9.0), cached_tokens=3)
    admitted = Admitted(ask, Grant(12, 45.0, 240.0), Grant(12, 50.0, 250.0))
    prompt = Prompt([5] * 7, "", dropped_messages=2, dropped_tokens=40)
    told = to_accepted(admitted.request("r", prompt.token_ids), admitted, prompt, 192, 11).accepted
    assert (told.request_id, told.prompt_tokens, told.granted_max_tokens, told.context_limit) == ("r", 7, 12, 192)
    assert (told.predicted_first_token_ms, told.predicted_total_ms, told.seed) == (50, 250, 11)
    assert (told.cached_tokens, told.dropped_messages, told.dropped_tokens) == (3, 2, 40)


def test_the_end_tells_what_was_not_computed_and_what_was_guessed() -> None:
    finished = Finished(Finish.EOS, "", 9, Times(1, 2, 3), cached_tokens=4, drafts=Drafts(8, 5))
    usage = to_done(finished, [], 6, 0).done.usage
    assert (usage.cached_tokens, usage.draft_tokens, usage.accepted_draft_tokens) == (4, 8, 5)


def test_messages_keep_order_and_content() -> None:
    messages = [inference_pb2.Message(role="user", content="a"), inference_pb2.Message(role="x", content="")]
    found = to_conversation(inference_pb2.ChatRequest(messages=messages))
    assert [(message.role, message.content) for message in found.messages] == [("user", "a"), ("x", "")]
    assert (found.tools, found.choice, found.continues) == ([], ToolChoice(), False)


def test_calls_results_and_tools_come_with_a_conversation() -> None:
    call = inference_pb2.ToolCall(id="123456789", name="f", arguments='{"b": 1, "a": [null]}')
    chat = inference_pb2.Messages(
        messages=[
            inference_pb2.Message(role="assistant", tool_calls=[call, inference_pb2.ToolCall(id="1", name="g")]),
            inference_pb2.Message(role="tool", content="4", tool_call_id="123456789", name="f"),
        ],
        tools=[
            inference_pb2.Tool(name="f", description="d", parameters='{"type": "object"}'),
            inference_pb2.Tool(name="g"),
        ],
        tool_choice=inference_pb2.ToolChoice(name="f", single=True),
        continue_final_message=True,
    )
    found = to_conversation(chat)
    assert found.messages[0].tool_calls == [
        ToolCall("123456789", "f", {"b": 1, "a": [None]}),
        ToolCall("1", "g", {}),
    ]
    assert (found.messages[1].tool_call_id, found.messages[1].name) == ("123456789", "f")
    assert found.tools == [Tool("f", "d", {"type": "object"}), Tool("g")]
    assert found.choice == ToolChoice(ToolMode.REQUIRED, "f", single=True)
    assert found.continues


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[1]", "expected a JSON object, got '[1]'"),
        ("{", "expected a JSON object, got: "),
        ('{"a": NaN}', "NaN, which is no JSON"),
        ('{"a": "\\ud800"}', "half of a surrogate pair"),
        ('{"a": ' * 33 + "1" + "}" * 33, "at most 32 levels"),
        ('{"a":' * 20_000, "at most 65536 bytes"),
        ('{"a":' * 10_000, "at most 32 levels"),
        ('{"a": [' + "1," * 5000 + "1]}", "at most 4096 values"),
        ('{"a": ' + "9" * 5000 + "}", "expected a JSON object, got: "),
    ],
)
def test_json_out_of_bounds_is_refused_by_field(text: str, expected: str) -> None:
    chat = inference_pb2.ChatRequest(tools=[inference_pb2.Tool(name="f", parameters=text)])
    with pytest.raises(RequestError, match=re.escape(expected)) as refusal:
        to_conversation(chat)
    assert refusal.value.numbers["field"] == "tools[0].parameters"


def test_pieces_of_calls_are_told_in_order_and_what_is_malformed_at_the_end() -> None:
    malformed = MalformedCall("x", "expected y", 1)
    pieces = [
        Piece("", Choice(5), [CallDelta(0, "123456789", "f", "{")]),
        Piece("a", None, [CallDelta(0, arguments="}"), malformed]),
    ]
    delta = to_delta(pieces, Names()).delta  # type: ignore[arg-type]
    assert [(each.index, each.id, each.name, each.arguments) for each in delta.tool_calls] == [
        (0, "123456789", "f", "{"),
        (0, "", "", "}"),
    ]
    done = to_done(Finished(Finish.EOS, "", 1, Times(1, 2, 3)), [malformed, MalformedCall("z", "p")], 4, 0).done
    assert [(each.text, each.problem, each.HasField("index")) for each in done.malformed_tool_calls] == [
        ("x", "expected y", True),
        ("z", "p", False),
    ]


def test_a_delta_is_all_its_pieces() -> None:
    pieces = [
        Piece("He", Choice(5, -0.5, [(5, -0.5), (6, -1.5)])),
        Piece("", Choice(7, -2.0, [(6, -0.25)])),
        Piece("llo", None),
    ]
    delta = to_delta(pieces, Names()).delta  # type: ignore[arg-type]  # all that a delta needs
    assert delta.text == "Hello"
    assert list(delta.token_ids) == [5, 7]
    assert entries(delta.logprobs) == [(5, b"<5>", -0.5), (7, b"<7>", -2.0)]
    assert entries(delta.logprobs[0].top) == [(5, b"<5>", -0.5), (6, b"<6>", -1.5)]
    assert entries(delta.logprobs[1].top) == [(6, b"<6>", -0.25)]


def entries(logprobs: Sequence[inference_pb2.TokenLogprob]) -> list[tuple[int, bytes, float]]:
    return [(each.token_id, each.token, each.logprob) for each in logprobs]


def test_logprobs_nobody_asked_for_are_not_there() -> None:
    delta = to_delta([Piece("a", Choice(5))], Names()).delta  # type: ignore[arg-type]
    assert list(delta.token_ids) == [5]
    assert not delta.logprobs


@pytest.mark.parametrize("finish", Finish)
def test_every_finish_has_a_reason_on_the_wire(finish: Finish) -> None:
    done = to_done(Finished(finish, "", 1, Times(1, 2, 3)), [], 4, 0).done
    assert done.finish_reason != inference_pb2.FINISH_REASON_UNSPECIFIED


@pytest.mark.parametrize(
    ("times", "tokens", "expected"),
    [
        # (queue, prefill, first token, total) in ms, tokens/s; arrived at 100.
        (Times(110, 150, 1150), 11, [10, 40, 50, 1050, 10]),
        (Times(110, 150, 150), 1, [10, 40, 50, 50, 0]),  # one token: no pace
        (Times(110, 150, 160), 0, [10, 40, 50, 60, 0]),  # eos at once
        (Times(None, None, 130), 0, [30, 0, 30, 30, 0]),  # expired in the queue
        (Times(110, None, 130), 0, [10, 20, 30, 30, 0]),  # expired in its prefill
    ],
)
def test_times_count_from_arrival(times: Times, tokens: int, expected: Sequence[float]) -> None:
    done = to_done(Finished(Finish.LENGTH, "", tokens, times), [], 4, 100).done
    assert (done.usage.prompt_tokens, done.usage.completion_tokens) == (4, tokens)
    told = done.timings
    assert [
        told.queue_ms,
        told.prefill_ms,
        told.first_token_ms,
        told.total_ms,
        told.tokens_per_second,
    ] == pytest.approx(expected)
