"""Programs with others' OpenAI adapters, each in a Python of its own: they want different versions of the client."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bise import Client
from golden.tool_bundle import teach_tools
from running import RunningDaemon, running

pytestmark = [pytest.mark.slow, pytest.mark.real_model]

_ROOT = Path(__file__).parents[2]
_PATIENCE_S = 100
_MODEL = "SmolLM2-135M-Instruct"


@pytest.fixture(scope="module")
def daemon(smollm2_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    folder = tmp_path_factory.mktemp("daemon")
    bundle = teach_tools(smollm2_bundle, folder / "taught", "<|im_start|>", "<|im_end|>")
    with running(bundle, folder, context=2048, http={"listen": "127.0.0.1:0"}) as daemon:
        with Client(daemon.address) as client:
            client.wait_until_serving(timeout=_PATIENCE_S)
        yield daemon


@pytest.fixture(scope="module", params=["langchain", "llama_index"])
def found(request: pytest.FixtureRequest, daemon: RunningDaemon) -> dict[str, Any]:
    """What the adapter's caller printed."""
    python = _ROOT / ".cache" / "adapters" / request.param / "bin" / "python"
    if not python.exists():
        pytest.skip(f"{request.param} is not installed; `make adapters` installs and tests it")
    caller = Path(__file__).with_name(f"{request.param}_caller.py")
    assert daemon.http is not None
    ended = subprocess.run(
        [python, caller, daemon.http, _MODEL],
        capture_output=True,
        text=True,
        timeout=_PATIENCE_S,
        env={"PATH": os.environ["PATH"], "LANGSMITH_TRACING": "false"},
    )
    assert ended.returncode == 0, ended.stderr
    printed: dict[str, Any] = json.loads(ended.stdout)
    return printed


def test_a_chat_and_its_stream(found: dict[str, Any], daemon: RunningDaemon) -> None:
    with Client(daemon.address) as client:
        answer = client.chat("Hello", max_tokens=40)
    assert found["whole"] == "".join(found["pieces"]) == answer.text
    assert len(found["pieces"]) > 2
    if "usage" in found:
        assert found["usage"]["output_tokens"] == answer.usage.completion_tokens
        assert found["stream_tokens"] == [answer.usage.completion_tokens]


def test_a_completion(found: dict[str, Any], daemon: RunningDaemon) -> None:
    if "completion" not in found:
        pytest.skip("this adapter has chats alone")
    with Client(daemon.address) as client:
        assert found["completion"] == client.generate("Once upon a time", max_tokens=8).text


def test_a_refusal(found: dict[str, Any]) -> None:
    assert found["refused"] == "BUDGET"


def test_a_schema(found: dict[str, Any]) -> None:
    if "parsed" not in found:
        pytest.skip("this adapter parses by calls alone")
    assert found["parsed"] in ({"valid": True}, {"valid": False})


def test_a_call(found: dict[str, Any]) -> None:
    assert found["calls"]
    assert all(name == "switch" and set(arguments) == {"on"} for name, arguments in found["calls"])
