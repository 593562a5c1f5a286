"""Which control tokens of a rendered chat the template wrote, and which someone spelled inside a message."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

# Unicode noncharacters: never assigned, in no vocabulary, and refused in all that others write.
OPEN = "\ufdd0"
CLOSE = "\ufdd1"


@dataclass(frozen=True, slots=True)
class Reading:
    """A guarded chat, read back.

    Attributes:
        text: the chat without its guards.
        controls: the control tokens outside of contents, in order, as (start, end) in `text` and token id.
        torn: the template cut a content in a way that leaves open where it begins or ends.
    """

    text: str
    controls: list[tuple[int, int, int]]
    torn: bool


class ControlTokens:
    """The tokens with a meaning to the model (turn marks and the like), by the text that spells them."""

    def __init__(self, ids: Mapping[str, int]) -> None:
        """
        Args:
            ids: token id by text; no text is empty.
        """
        self._ids = dict(ids)
        self.token_ids = frozenset(ids.values())
        # Longest first, so that matches are leftmost-longest as in tokenizers.
        texts = [re.escape(text) for text in sorted(ids, key=len, reverse=True)]
        self._control = re.compile("|".join(texts) or r"(?!)")
        self._control_or_guard = re.compile("|".join([OPEN, CLOSE, *texts]))

    def guard(self, content: str) -> str:
        """`content` with marked edges, and no control token left whole.

        The marks go inside the surrounding space, so that templates can still trim it.
        """
        core = content.strip()
        if not core:
            return content
        start = content.index(core)
        broken = self._control.sub(lambda match: (CLOSE + OPEN).join(match[0]), core)
        return f"{content[:start]}{OPEN}{broken}{CLOSE}{content[start + len(core) :]}"

    def read(self, guarded: str) -> Reading:
        """Reads a chat rendered from guarded contents."""
        pieces: list[str] = []
        controls: list[tuple[int, int, int]] = []
        inside = torn = False
        length = position = 0  # of the text so far without guards, and in `guarded`
        for match in self._control_or_guard.finditer(guarded):
            pieces.append(guarded[position : match.start()])
            length += match.start() - position
            position = match.end()
            if match[0] in (OPEN, CLOSE):
                torn |= inside == (match[0] == OPEN)
                inside = match[0] == OPEN
                continue
            if not inside:
                controls.append((length, length + len(match[0]), self._ids[match[0]]))
            pieces.append(match[0])
            length += len(match[0])
        pieces.append(guarded[position:])
        return Reading("".join(pieces), controls, torn or inside)
