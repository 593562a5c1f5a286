"""What the log says of requests, and what it keeps to itself."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from bise import Client, ContextOverflow
from bise_daemon.logs import FIELDS
from running import running

pytestmark = pytest.mark.slow

SECRET = "hunter2"


def fields(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    return [vars(record)[FIELDS] for record in caplog.records if FIELDS in vars(record)]


def test_each_request_has_a_line_with_its_id_and_none_of_its_words(
    tiny_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "bise_daemon")
    with running(tiny_bundle, tmp_path) as daemon, Client(daemon.address) as client:
        client.wait_until_serving()
        answer = client.chat(SECRET, max_tokens=3, ignore_eos=True)
        with pytest.raises(ContextOverflow):
            client.generate(SECRET * 500)
    done, refused = fields(caplog)
    assert done["request_id"] == answer.accepted.request_id
    assert (done["operation"], done["finish_reason"], done["completion_tokens"]) == ("chat", "length", 3)
    assert (refused["operation"], refused["reason"]) == ("text_completion", "CONTEXT_OVERFLOW")
    assert SECRET not in caplog.text


def test_what_was_asked_is_there_for_who_wants_it(
    tiny_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "bise_daemon")
    with running(tiny_bundle, tmp_path, log_prompts=True) as daemon, Client(daemon.address) as client:
        client.wait_until_serving()
        client.chat(f"{SECRET}\nINFO forged", max_tokens=1)
        client.generate([5, 6], max_tokens=1)
    first, second = (told["prompt"] for told in fields(caplog))
    assert (first, second) == (f"user: {SECRET}\nINFO forged", "2 token ids")
    assert not [line for line in caplog.text.splitlines() if line.startswith("INFO forged")]
