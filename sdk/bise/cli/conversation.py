"""A conversation on the screen: what was said so far, and the answer as it comes."""

from __future__ import annotations

from rich.console import Console

from bise.cli.timings import timings_line
from bise.client import Client
from bise.errors import BiseError
from bise.messages import Message
from bise.options import Options
from bise.types import Accepted, FinishReason, Result

_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)], "\N{REPLACEMENT CHARACTER}")
for _kept in "\n\t":
    del _CONTROLS[ord(_kept)]
# What is worth a word when an answer did not end by itself.
_ENDINGS = {
    FinishReason.LENGTH: " … (max_tokens, or what was granted)",
    FinishReason.DEADLINE: " … (out of time)",
}


class Conversation:
    """Turns and answers. An answer that is stopped with Ctrl-C stays as far as it got."""

    def __init__(
        self,
        client: Client,
        console: Console,
        *,
        system: str | None,
        options: Options,
        show_timings: bool,
        show_prompt: bool = False,
    ) -> None:
        self._client = client
        self._console = console
        self._options = options
        self._show_timings = show_timings
        self._show_prompt = show_prompt
        self._opening = [Message("system", system)] if system else []
        self._last: Result | None = None
        self.messages = list(self._opening)

    @property
    def model(self) -> str:
        """The name of the model that answers.

        Raises:
            BiseError: no daemon answers.
        """
        return self._client.status().model or "bise"

    @property
    def timings(self) -> str:
        """How long the last answer took, in one line."""
        return timings_line(self._last) if self._last else "there is no whole answer yet"

    def reset(self) -> None:
        """Forgets all but the system message."""
        self.messages = list(self._opening)
        self._last = None
        self._console.print("the conversation is forgotten", style="dim")

    def say(self, text: str) -> Result | None:
        """Shows the answer to a turn as it comes; None when it was stopped with Ctrl-C.

        Raises:
            BiseError: there is no answer; the turn is taken back.
        """
        turn = [*self.messages, Message("user", text)]
        if self._show_prompt:
            self._tell_prompt(turn)
        stream = self._client.stream_chat(turn, **self._options)
        waiting = self._console.status("", spinner="dots")
        self._last = None
        try:
            with waiting, stream:
                self._tell_dropped(stream.accepted)
                for delta in stream:
                    waiting.stop()
                    self._console.print(visible(delta.text), end="", markup=False)
            self._last = stream.result
            self._console.print(_ENDINGS.get(self._last.finish_reason, ""), style="dim")
        except KeyboardInterrupt:
            self._console.print(" (stopped)", style="dim")
        except BiseError:
            if stream.text:
                self._console.print()
            raise
        if stream.text:
            self.messages = [*turn, Message("assistant", stream.text)]
        if self._show_timings and self._last:
            self._console.print(self.timings, style="dim")
        return self._last

    def _tell_prompt(self, turn: list[Message]) -> None:
        """The exact prompt, as the daemon renders and counts it."""
        prompt = self._client.count_tokens(turn)
        self._console.print(visible(prompt.rendered), style="dim", markup=False)
        self._console.print(f"({prompt.count} tokens)", style="dim")

    def _tell_dropped(self, accepted: Accepted) -> None:
        """Nothing is left out silently."""
        if accepted.dropped_messages:
            dropped = f"the oldest {accepted.dropped_messages} messages, {accepted.dropped_tokens} tokens"
            self._console.print(f"(left out: {dropped})", style="dim")


def visible(text: str) -> str:
    """The text without control characters: a model must not steer the terminal."""
    return text.translate(_CONTROLS)
