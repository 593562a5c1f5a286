from __future__ import annotations

import builtins
import io
from collections.abc import Callable, Iterator

import pytest
from rich.console import Console
from typer.testing import Result

from bise import Client, DaemonError, Message, Refused
from bise.cli.chat import talk_in_terminal
from bise.cli.conversation import Conversation, visible
from bise.errors import ContextOverflow
from bise.options import Options
from bise.testing import Answer, FakeDaemon, Gate

Run = Callable[..., Result]


def test_each_line_of_a_pipe_is_a_turn(run: Run) -> None:
    with FakeDaemon(["one", "two"]) as daemon:
        told = run("chat", "-a", daemon.address, "--system", "Be brief.", stdin="Hi\n\nAnd?\n")
    assert (told.exit_code, told.stdout) == (0, "one\ntwo\n")
    assert daemon.requests[1].messages == (
        Message("system", "Be brief."),
        Message("user", "Hi"),
        Message("assistant", "one"),
        Message("user", "And?"),
    )


def test_timings_follow_each_answer_when_asked_for(run: Run, daemon: FakeDaemon) -> None:
    told = run("chat", "-a", daemon.address, "--timings", stdin="Hi\n")
    assert "2 tokens · first after" in told.stdout


def test_budget_priority_and_overflow_are_sent(run: Run, daemon: FakeDaemon) -> None:
    flags = ("--priority", "background", "--on-overflow", "truncate_oldest", "--first-token-timeout", "0.3")
    assert run("chat", "-a", daemon.address, *flags, "--timeout", "9", stdin="Hi\n").exit_code == 0
    request = daemon.requests[0]
    assert request.options == {"priority": "background", "on_overflow": "truncate_oldest"}
    assert (request.total_ms, request.first_token_ms, request.per_token_ms) == (9000, 300, 0)


def test_what_is_left_out_is_told(run: Run) -> None:
    with FakeDaemon([Answer("one", dropped_messages=4, dropped_tokens=2), "two"]) as daemon:
        told = run("chat", "-a", daemon.address, stdin="Hi\nAnd?\n")
    assert told.stdout == "(left out: the oldest 4 messages, 2 tokens)\none\ntwo\n"


def test_an_error_ends_a_pipe(run: Run) -> None:
    with FakeDaemon([Refused("full"), "two"]) as daemon:
        told = run("chat", "-a", daemon.address, stdin="Hi\nAnd?\n")
    assert (told.exit_code, told.stderr) == (1, "error: full\n")
    assert len(daemon.requests) == 1


def test_an_answer_cut_off_says_so(run: Run, daemon: FakeDaemon) -> None:
    assert "Hello … (max_tokens" in run("chat", "-a", daemon.address, "--max-tokens", "1", stdin="Hi\n").stdout


Terminal = Callable[..., str]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    """Types lines at the prompt; a line that is an exception is raised there. Returns what the screen shows."""

    def talk(daemon: FakeDaemon, *lines: str | type[BaseException]) -> str:
        typed: Iterator[str | type[BaseException]] = iter((*lines, EOFError))

        def read_line(_prompt: str) -> str:
            line = next(typed)
            if isinstance(line, str):
                return line
            raise line

        monkeypatch.setattr(builtins, "input", read_line)
        screen = io.StringIO()
        console = Console(file=screen, highlight=False, soft_wrap=True)
        with Client(daemon.address, timeout=10) as client:
            conversation = Conversation(client, console, system="Be brief.", options=Options(), show_timings=False)
            talk_in_terminal(conversation, console)
        return screen.getvalue() + capsys.readouterr().err

    return talk


def test_the_terminal_greets_with_the_model_and_answers(terminal: Terminal, daemon: FakeDaemon) -> None:
    assert terminal(daemon, "Hi").splitlines() == ["fake · /help for commands", "Hello there", ""]


@pytest.mark.parametrize("leaving", ["/exit", "/quit", EOFError, KeyboardInterrupt])
def test_leaving(terminal: Terminal, daemon: FakeDaemon, leaving: str | type[BaseException]) -> None:
    terminal(daemon, leaving, "never said")
    assert daemon.requests == ()


def test_timings_are_told_on_request(terminal: Terminal, daemon: FakeDaemon) -> None:
    before, after = terminal(daemon, "/timings", "Hi", "/timings").split("Hello there")
    assert "there is no whole answer yet" in before
    assert "2 tokens · first after" in after


def test_reset_forgets_all_but_the_system_message(terminal: Terminal, daemon: FakeDaemon) -> None:
    terminal(daemon, "Hi", "/reset", "Again")
    assert daemon.requests[1].messages == (Message("system", "Be brief."), Message("user", "Again"))


def test_an_unknown_command_is_not_sent_to_the_model(terminal: Terminal, daemon: FakeDaemon) -> None:
    assert "there is no command /nope: /timings" in terminal(daemon, "/nope [bold]x", "/help", "  ")
    assert daemon.requests == ()


def test_an_error_is_told_and_the_turn_taken_back(terminal: Terminal) -> None:
    with FakeDaemon([Answer("half", error=DaemonError("the engine ended")), "fine"]) as daemon:
        screen = terminal(daemon, "Hi", "Again")
    assert "error: the engine ended" in screen
    assert daemon.requests[1].messages == (Message("system", "Be brief."), Message("user", "Again"))


def test_a_full_context_says_how_to_go_on(terminal: Terminal) -> None:
    with FakeDaemon([ContextOverflow("too long.", reason="CONTEXT_OVERFLOW")]) as daemon:
        assert "too long. Or forget the conversation with /reset." in terminal(daemon, "Hi")


def test_ctrl_c_stops_the_answer_and_keeps_the_chat(terminal: Terminal, ctrl_c_gate: Gate) -> None:
    ctrl_c_gate.open(2)
    with FakeDaemon([Answer("one two three", gate=ctrl_c_gate), "fine"]) as daemon:
        screen = terminal(daemon, "Hi", "Again")
        assert daemon.requests[0].cancelled.wait(5)
    assert "(stopped)" in screen
    assert "fine" in screen
    said = daemon.requests[1].messages
    assert said[-1] == Message("user", "Again")
    assert "one two".startswith(said[-2].content) or said[-2] == Message("system", "Be brief.")


def test_a_model_can_not_steer_the_terminal() -> None:
    assert visible("a\x1b[2Jb\tc\nd\x9b1m\x07") == "a�[2Jb\tc\nd�1m�"


def test_the_prompt_is_shown_before_each_answer_when_asked_for(run: Run, daemon: FakeDaemon) -> None:
    told = run("chat", "-a", daemon.address, "--show-prompt", "--system", "Be\x1b brief.", stdin="Hi\n")
    assert told.stdout == "system: Be\N{REPLACEMENT CHARACTER} brief.\nuser: Hi\n\n(6 tokens)\nHello there\n"
