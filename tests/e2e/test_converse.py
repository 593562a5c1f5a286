"""A conversation told word by word has the tokens of one that is sent at once; on the int8 cache."""

from __future__ import annotations

from typing import Any

import pytest

from bise import Client
from e2e.conftest import Plain
from e2e.prompts import SYSTEM

pytestmark = [pytest.mark.slow, pytest.mark.real_model, pytest.mark.timeout(400)]

OPTIONS: dict[str, Any] = {"max_tokens": 32}
TURNS = ("Where is the Rue du Lac, and how do I get there?", "And from there to the station?")


def test_word_by_word_is_as_at_once(client: Client, plain: Plain) -> None:
    messages = [{"role": "system", "content": SYSTEM}]
    with client.converse(messages, chunking="clause", **OPTIONS) as talk:
        for text in TURNS:
            words = text.split()
            for end in range(1, len(words) + 1):
                talk.hear(" ".join([*words[: end - 1], words[end - 1][:2]]))  # a recognizer is not sure of the last
                talk.hear(" ".join(words[:end]))
            found = talk.answer(text).finish()
            messages.append({"role": "user", "content": text})
            expected = plain.chat(messages, **OPTIONS)
            assert found.token_ids == expected.token_ids
            assert found.text == expected.text
            assert found.usage.cached_tokens > 0
            messages.append({"role": "assistant", "content": found.text})
