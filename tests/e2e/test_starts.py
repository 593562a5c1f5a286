"""What one start of the daemon leaves for the next, on the real model: step times, and computed prefixes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bise import Client, Result
from e2e.conftest import PATIENCE_S, Plain
from e2e.prompts import SYSTEM
from running import running

pytestmark = [pytest.mark.slow, pytest.mark.real_model, pytest.mark.timeout(400)]

MESSAGES = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "Where are you?"}]
PREFIXES = [{"name": "van", "messages": MESSAGES[:1]}]


class Starts:
    """A daemon that is started again and again with the same state, and what it logs of it."""

    def __init__(self, bundle: Path, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        self._bundle = bundle
        self._folder = folder
        self._caplog = caplog
        self.state = folder / "state"

    @contextmanager
    def client(self) -> Iterator[Client]:
        """Of the next start."""
        self._caplog.clear()
        settings = {"context": 512, "slots": 2, "state_dir": str(self.state), "prefixes": PREFIXES}
        with running(self._bundle, self._folder, **settings) as daemon, Client(daemon.address) as client:
            client.wait_until_serving(timeout=PATIENCE_S)
            yield client

    def answer(self) -> Result:
        """To the first question of the next start."""
        with self.client() as client:
            return client.chat(MESSAGES, max_tokens=24, ignore_eos=True)

    def told(self, words: str) -> list[str]:
        """The messages with these words, since the last start."""
        return [message for message in self._caplog.messages if words in message]

    @property
    def warnings(self) -> list[str]:
        return [record.getMessage() for record in self._caplog.records if record.levelno >= logging.WARNING]


@pytest.fixture
def starts(smollm2_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Starts:
    caplog.set_level(logging.INFO, "bise_daemon")
    return Starts(smollm2_bundle, tmp_path, caplog)


def test_a_second_start_measures_nothing_and_computes_no_prefix(starts: Starts, plain: Plain) -> None:
    expected = plain.chat(MESSAGES, max_tokens=24, ignore_eos=True)
    first = starts.answer()
    assert starts.told("prefix van")[0].endswith("computed")
    assert not starts.told("(0 ms of it measuring steps)")
    second = starts.answer()
    assert starts.told("prefix van")[0].endswith("from disk")
    assert starts.told("(0 ms of it measuring steps)")
    assert starts.warnings == []
    for answer in (first, second):
        assert answer.token_ids == expected.token_ids
        # All of the system message, before anybody asked anything.
        assert answer.usage.cached_tokens == answer.accepted.cached_tokens > 40


def test_state_that_was_damaged_is_ignored_with_a_warning_and_made_again(starts: Starts, plain: Plain) -> None:
    expected = plain.chat(MESSAGES, max_tokens=24, ignore_eos=True)
    starts.answer()
    (calibration,) = starts.state.glob("*.calibration.json")
    (prefix,) = (starts.state / "prefixes").iterdir()
    calibration.write_bytes(calibration.read_bytes()[:-20])
    content = bytearray(prefix.read_bytes())
    content[len(content) // 2] ^= 1
    prefix.write_bytes(content)
    again = starts.answer()
    assert sorted(warning.split(": ")[0] for warning in starts.warnings) == sorted([str(calibration), str(prefix)])
    assert all("ignored" in warning for warning in starts.warnings)
    assert starts.told("prefix van")[0].endswith("computed")
    assert again.token_ids == expected.token_ids
    assert starts.answer().token_ids == expected.token_ids
    assert starts.warnings == []
