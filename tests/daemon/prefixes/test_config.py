"""Which settings of prefixes are taken."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from bise_daemon.chat.message import Role
from bise_daemon.prefixes.config import PrefixConfigs

CONFIGS: TypeAdapter[Any] = TypeAdapter(PrefixConfigs)
SYSTEM = {"role": "system", "content": "You drive."}
USER = {"role": "user", "content": "Where to?"}
ASSISTANT = {"role": "assistant", "content": "Home."}


def test_a_prompt_and_a_chat_are_taken() -> None:
    prompt, chat = CONFIGS.validate_python(
        [{"name": "faq", "prompt": "Q: "}, {"name": "car.v2_a-b", "messages": [SYSTEM, USER, ASSISTANT]}]
    )
    assert (prompt.prompt, prompt.messages) == ("Q: ", None)
    assert (chat.prompt, [each.role for each in chat.messages]) == (None, [Role.SYSTEM, Role.USER, Role.ASSISTANT])


@pytest.mark.parametrize(
    "entry",
    [
        {"name": "x" * 64, "prompt": "x" * 65536},
        {"name": "x", "messages": [SYSTEM] * 64},
        {"name": "x", "messages": [{"role": "system", "content": "x" * 65536}]},
    ],
    ids=["prompt", "messages", "content"],
)
def test_the_bounds_are_inside(entry: dict[str, Any]) -> None:
    CONFIGS.validate_python([entry])
    CONFIGS.validate_python([entry | {"name": f"x{number}"} for number in range(16)])


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"prompt": "x"}, "name"),
        ({"name": "", "prompt": "x"}, "name"),
        ({"name": "x" * 65, "prompt": "x"}, "name"),
        ({"name": "../x", "prompt": "x"}, "name"),
        ({"name": "x\n", "prompt": "x"}, "name"),
        ({"name": "x"}, "x: either prompt or messages"),
        ({"name": "x", "prompt": "x", "messages": [SYSTEM]}, "x: either prompt or messages"),
        ({"name": "x", "promt": "x"}, "promt"),
        ({"name": "x", "prompt": ""}, "prompt"),
        ({"name": "x", "prompt": "x" * 65537}, "prompt"),
        ({"name": "x", "prompt": 7}, "prompt"),
        ({"name": "x", "messages": []}, "messages"),
        ({"name": "x", "messages": [SYSTEM] * 65}, "messages"),
        ({"name": "x", "messages": [SYSTEM, USER]}, "x: messages that a user's turn can follow"),
        ({"name": "x", "messages": [{"role": "tool", "content": "x"}]}, "role"),
        ({"name": "x", "messages": [{"role": "system", "content": ""}]}, "content"),
        ({"name": "x", "messages": [{"role": "system", "content": "x" * 65537}]}, "content"),
        ({"name": "x", "messages": [SYSTEM | {"tools": []}]}, "tools"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_others_are_refused(entry: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError) as error:
        CONFIGS.validate_python([entry])
    assert problem in str(error.value)


def test_a_name_stands_once() -> None:
    with pytest.raises(ValidationError, match=r"each name once \(not a\)"):
        CONFIGS.validate_python([{"name": name, "prompt": name} for name in ("a", "b", "a")])


def test_there_are_few() -> None:
    with pytest.raises(ValidationError, match="at most 16"):
        CONFIGS.validate_python([{"name": f"x{number}", "prompt": "x"} for number in range(17)])
