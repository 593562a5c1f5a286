"""Conversations over a real socket, with a tiny real model: tokens, callers that leave, callers that never read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from bise import Client, ConversationLost, DaemonError, InvalidRequest
from bise_proto.v1 import inference_pb2 as pb
from bise_proto.v1 import inference_pb2_grpc
from running import RunningDaemon, running

pytestmark = pytest.mark.slow

_PATIENCE_S = 30
_NARROW = [("grpc.http2.lookahead_bytes", 64), ("grpc.http2.bdp_probe", 0), ("grpc.use_local_subchannel_pool", 1)]
SYSTEM = {"role": "system", "content": "Be brief."}
WORDS = ["how", "far", "is", "it", "from", "here", "to", "the", "old", "harbour"]
OPTIONS: dict[str, Any] = {"max_tokens": 20, "ignore_eos": True}


@pytest.fixture(scope="module")
def daemon(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    settings = {"slots": 3, "check_integrity": True, "max_message_bytes": 65536}
    with running(tiny_bundle, tmp_path_factory.mktemp("daemon"), **settings) as daemon:
        with Client(daemon.address) as client:
            client.wait_until_serving()
        yield daemon


@pytest.fixture
def client(daemon: RunningDaemon) -> Iterator[Client]:
    with Client(daemon.address) as client:
        yield client


def idle(client: Client) -> None:
    """Returns when nobody holds a slot."""
    for status in client.watch_status(interval=0.1, timeout=_PATIENCE_S):
        if status.slots_used == status.queued == 0:
            return


def test_tokens_are_those_of_a_chat_whatever_was_heard_before(client: Client) -> None:
    messages = [SYSTEM]
    with client.converse([SYSTEM], **OPTIONS) as talk:
        for turn in range(3):
            for end in range(1, len(WORDS) + 1):
                talk.hear(" ".join(WORDS[:end]) if end % 4 else "something else that was misheard")
            text = f"{' '.join(WORDS)}, {turn}?"
            answer = talk.answer(text).finish()
            messages.append({"role": "user", "content": text})
            assert client.chat(messages, **OPTIONS).token_ids == answer.token_ids
            messages.append({"role": "assistant", "content": answer.text})


def computed(client: Client, daemon: RunningDaemon, prompt: list[int]) -> None:
    """Returns when a prompt is in the cache."""
    serving = daemon.server._stage.current
    assert serving is not None
    for _ in client.watch_status(interval=0.1, timeout=_PATIENCE_S):
        held = [list(tokens)[:count] for tokens, count in serving.dispatcher.engine.outlook.prefixes]
        if prompt in held:
            return


def test_at_the_turns_end_all_but_a_step_is_computed(client: Client, daemon: RunningDaemon) -> None:
    text = "nobody has ever said that to this daemon"
    prompt = list(client.count_tokens([SYSTEM, {"role": "user", "content": text}]).token_ids)
    before = client.status()
    with client.converse([SYSTEM], **OPTIONS) as talk:
        talk.hear("nobody has ever said")
        talk.hear(text)
        computed(client, daemon, prompt)
        answer = talk.answer(text).finish()
    assert answer.usage.cached_tokens == answer.usage.prompt_tokens - 2  # this model's smallest chunk
    after = client.status()
    assert after.requests_finished == before.requests_finished + 1
    assert after.requests_cancelled == before.requests_cancelled


def test_a_client_that_dies_leaves_no_slot_and_can_come_back(client: Client, daemon: RunningDaemon) -> None:
    with Client(daemon.address) as other:
        talk = other.converse([SYSTEM], ignore_eos=True)
        with talk, talk.answer("Tell me everything.") as stream:
            name, first = talk.conversation_id, next(iter(stream)).text
            other.close()
    idle(client)
    with client.converse(conversation_id=name, **OPTIONS) as talk:
        system, user, assistant = talk.messages
        assert (system.content, user.content) == ("Be brief.", "Tell me everything.")
        assert assistant.content.startswith(first)
        assert talk.answer("Go on").finish().text


def test_who_resumes_takes_over(client: Client) -> None:
    with client.converse([SYSTEM], ignore_eos=True) as talk:
        stream = talk.answer("Tell me everything.")
        with stream:
            next(iter(stream))
            with client.converse(conversation_id=talk.conversation_id, **OPTIONS) as other:
                assert other.answer("Go on").finish().text
    idle(client)


def test_others_conversations_are_lost(client: Client) -> None:
    with pytest.raises(ConversationLost) as lost, client.converse(conversation_id="A" * 22):
        pass
    assert lost.value.reason == "CONVERSATION_LOST"


@pytest.mark.parametrize(("heard", "said"), [("x" * 70_000, "Hi"), ("Hi", "x" * 70_000)], ids=["heard", "said"])
def test_what_is_too_large_ends_the_stream(client: Client, heard: str, said: str) -> None:
    # Where a call ends while something is sent, gRPC forgets what it ended with: that is told as a DaemonError.
    for _ in range(50):
        with client.converse() as talk:
            talk.hear(heard)
            with pytest.raises((InvalidRequest, DaemonError)) as refusal:
                talk.answer(said).finish()
        if isinstance(refusal.value, InvalidRequest):
            break
    assert refusal.value.reason == "MESSAGE_TOO_LARGE"


def test_a_conversation_too_large_is_refused_at_its_next_turn(client: Client) -> None:
    with client.converse([{"role": "system", "content": "x" * 60_000}]) as talk:
        with pytest.raises(InvalidRequest) as refusal:
            talk.answer("y" * 10_000).finish()
        assert refusal.value.reason == "MESSAGE_TOO_LARGE"
        with pytest.raises(InvalidRequest) as refusal:
            talk.answer("Hi").finish()
        assert refusal.value.reason == "CONTEXT_OVERFLOW"


def test_thousands_of_words_at_once_hold_nobody_up(client: Client) -> None:
    before = client.status()
    with client.converse([SYSTEM], **OPTIONS) as talk:
        for number in range(2000):
            talk.hear(f"{number} {' '.join(WORDS)}")
        answer = talk.answer("And now?").finish()
    assert answer.usage.completion_tokens == 20
    assert client.status().steps - before.steps < 2000


def test_who_never_reads_delays_nobody_and_holds_no_slot(client: Client, daemon: RunningDaemon) -> None:
    def say() -> Iterator[pb.ConverseRequest]:
        yield pb.ConverseRequest(open=pb.Open(options=pb.Options(ignore_eos=True, logprobs=True, top_logprobs=20)))
        for number in range(50):
            yield pb.ConverseRequest(end_of_turn=pb.EndOfTurn(text=f"{number}"))

    with grpc.insecure_channel(daemon.address, _NARROW) as channel:
        call = inference_pb2_grpc.InferenceStub(channel).Converse(say())
        next(call)
        assert client.chat("Hi", **OPTIONS).usage.completion_tokens == 20
        idle(client)
        call.cancel()
    idle(client)


def test_a_drain_refuses_the_next_turn(tiny_bundle: Path, tmp_path: Path) -> None:
    with running(tiny_bundle, tmp_path, slots=1) as daemon, Client(daemon.address) as client:
        client.wait_until_serving()
        with client.converse(**OPTIONS) as talk:
            assert talk.answer("Hi").finish().usage.completion_tokens == 20
            daemon.stop()
        daemon.ended.result(_PATIENCE_S)
