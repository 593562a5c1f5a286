"""What was said, as the next answer is asked for with it."""

from __future__ import annotations

from bise_daemon.dialogue.dialogue import Dialogue
from bise_proto.v1.inference_pb2 import EndOfTurn, Message, Open, Options, Tool, ToolCall, ToolChoice

SYSTEM = Message(role="system", content="Be brief.")


def said(dialogue: Dialogue) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in dialogue.messages]


def assistant(text: str) -> Message:
    return Message(role="assistant", content=text)


def test_a_turn_is_asked_for_behind_what_was_said() -> None:
    opening = Open(
        messages=[SYSTEM],
        options=Options(max_tokens=5),
        tools=[Tool(name="look")],
        tool_choice=ToolChoice(mode=ToolChoice.REQUIRED),
    )
    request = Dialogue(opening).request(EndOfTurn(text="Hello"))
    assert list(request.messages) == [SYSTEM, Message(role="user", content="Hello")]
    assert (request.options, list(request.tools)) == (opening.options, list(opening.tools))
    assert request.tool_choice == opening.tool_choice


def test_asking_changes_nothing_and_answers_are_kept() -> None:
    dialogue = Dialogue(Open(messages=[SYSTEM]))
    dialogue.request(EndOfTurn(text="Hel"))
    assert said(dialogue) == [("system", "Be brief.")]
    dialogue.answered(EndOfTurn(text="Hello"), assistant("Hi."))
    assert said(dialogue) == [("system", "Be brief."), ("user", "Hello"), ("assistant", "Hi.")]


def test_who_was_not_answered_goes_on() -> None:
    dialogue = Dialogue(Open())
    dialogue.answered(EndOfTurn(text="Turn left"), assistant(""))
    dialogue.answered(EndOfTurn(text="no, right"), assistant("Right."))
    assert said(dialogue) == [("user", "Turn left\nno, right"), ("assistant", "Right.")]
    dialogue.answered(EndOfTurn(text="Stop"), assistant(""))
    assert dialogue.request(EndOfTurn()).messages[-1].content == "Stop"


def test_results_of_tools_take_the_place_of_words() -> None:
    dialogue = Dialogue(Open())
    call = Message(role="assistant", tool_calls=[ToolCall(id="1", name="look")])
    dialogue.answered(EndOfTurn(text="Look"), call)
    result = Message(role="tool", content="{}", tool_call_id="1")
    assert [each.role for each in dialogue.request(EndOfTurn(messages=[result])).messages] == [
        "user",
        "assistant",
        "tool",
    ]
    assert [each.role for each in dialogue.request(EndOfTurn(text="So?", messages=[result])).messages][-2:] == [
        "tool",
        "user",
    ]


def test_of_the_last_answer_only_what_was_spoken_was_said() -> None:
    dialogue = Dialogue(Open())
    dialogue.answered(EndOfTurn(text="Tell me"), assistant("Once upon a time."))
    dialogue.spoken("Once upon")
    assert said(dialogue) == [("user", "Tell me"), ("assistant", "Once upon")]
    dialogue.spoken("")
    dialogue.spoken("nobody answered")
    assert said(dialogue) == [("user", "Tell me")]
    Dialogue(Open()).spoken("nothing was said")


def test_calls_stay_whatever_was_spoken() -> None:
    dialogue = Dialogue(Open())
    answer = Message(role="assistant", content="I look.", tool_calls=[ToolCall(name="look")])
    dialogue.answered(EndOfTurn(text="Look"), answer)
    dialogue.spoken("")
    assert dialogue.messages[-1] == Message(role="assistant", tool_calls=[ToolCall(name="look")])
    assert answer.content == "I look."


def test_who_resumes_may_ask_otherwise() -> None:
    dialogue = Dialogue(Open(options=Options(max_tokens=5), tools=[Tool(name="look")]))
    dialogue.resumed(Open())
    assert dialogue.request(EndOfTurn()).options.max_tokens == 5
    choice = ToolChoice(name="listen")
    dialogue.resumed(Open(options=Options(logprobs=True), tools=[Tool(name="listen")], tool_choice=choice))
    request = dialogue.request(EndOfTurn())
    assert (request.options, list(request.tools)) == (Options(logprobs=True), [Tool(name="listen")])
    assert request.tool_choice == choice


def test_its_size_is_what_would_be_sent() -> None:
    dialogue = Dialogue(Open(messages=[Message(role="system", content="x" * 1000)]))
    assert 1000 < dialogue.size_bytes < 1050
