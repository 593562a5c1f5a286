"""What an answer said, from its responses."""

from __future__ import annotations

from bise_daemon.dialogue.said import Said
from bise_proto.v1 import inference_pb2 as pb

ACCEPTED = pb.Accepted(request_id="a", prompt_tokens=7, cached_tokens=6)


def take(said: Said, *events: pb.Accepted | pb.Delta | pb.Done) -> list[pb.ConverseResponse]:
    kinds = {pb.Accepted: "accepted", pb.Delta: "delta", pb.Done: "done"}
    return [said.take(pb.GenerateResponse(**{kinds[type(event)]: event})) for event in events]


def test_responses_go_on_as_they_are_and_make_a_message() -> None:
    said = Said()
    delta, done = pb.Delta(text="Hi", token_ids=[5]), pb.Done(finish_reason=pb.STOP)
    assert take(said, ACCEPTED, delta, pb.Delta(text="."), done) == [
        pb.ConverseResponse(accepted=ACCEPTED),
        pb.ConverseResponse(delta=delta),
        pb.ConverseResponse(delta=pb.Delta(text=".")),
        pb.ConverseResponse(done=done),
    ]
    assert said.message == pb.Message(role="assistant", content="Hi.")


def test_an_interruption_tells_how_far_it_came() -> None:
    said = Said()
    take(said, ACCEPTED, pb.Delta(text="Hi", token_ids=[5, 6]))
    usage = pb.Usage(prompt_tokens=7, cached_tokens=6, completion_tokens=2)
    assert list(said.interrupted()) == [pb.ConverseResponse(done=pb.Done(finish_reason=pb.INTERRUPTED, usage=usage))]
    assert said.message.content == "Hi"


def test_what_is_not_begun_is_accepted_before_it_ends() -> None:
    kinds = [response.WhichOneof("event") for response in Said().interrupted()]
    assert kinds == ["accepted", "done"]


def test_calls_are_put_together_and_count_when_they_are_whole() -> None:
    said = Said()
    pieces = [
        pb.ToolCallDelta(index=1, id="b", name="listen"),
        pb.ToolCallDelta(index=0, id="a", name="look"),
        pb.ToolCallDelta(index=0, arguments='{"at":'),
        pb.ToolCallDelta(index=0, arguments="1}"),
    ]
    take(said, ACCEPTED, pb.Delta(tool_calls=pieces[:3]))
    assert not said.message.tool_calls
    take(said, pb.Delta(tool_calls=pieces[3:]), pb.Done(finish_reason=pb.TOOL_CALLS))
    assert list(said.message.tool_calls) == [
        pb.ToolCall(id="a", name="look", arguments='{"at":1}'),
        pb.ToolCall(id="b", name="listen"),
    ]
