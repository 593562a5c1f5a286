"""Memory that gets short while the real model serves: nobody is lost, and what was taken comes back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bise import Client, LowMemory, MemoryLevel, Result
from bise_daemon.memory.fit import reserve_bytes
from bise_proto.bundle import read_manifest
from e2e.conftest import PATIENCE_S, Plain, status_when
from e2e.prompts import STORY
from running import SimulatedMemory, running

pytestmark = [pytest.mark.slow, pytest.mark.real_model, pytest.mark.timeout(400)]

CONTEXT = 1024
RESERVE_BYTES = reserve_bytes(0)
CLIENTS = 6
# One letter of the story is about half a token.
PROMPTS = [STORY[place * 600 : place * 600 + 600] for place in range(CLIENTS)]
TOKENS = 80


@pytest.fixture
def bytes_per_token(smollm2_bundle: Path) -> int:
    return read_manifest(smollm2_bundle).kv_cache.bytes_per_token


@pytest.fixture
def memory(bytes_per_token: int) -> SimulatedMemory:
    """Room for 4,000 tokens beside the reserve."""
    return SimulatedMemory(RESERVE_BYTES + 4000 * bytes_per_token)


@pytest.fixture
def pressed(smollm2_bundle: Path, tmp_path: Path, memory: SimulatedMemory) -> Iterator[Client]:
    """Of a daemon in that memory."""
    with (
        running(smollm2_bundle, tmp_path, memory.load, memory.read, context=CONTEXT, slots=4) as daemon,
        Client(daemon.address) as client,
    ):
        client.wait_until_serving(timeout=PATIENCE_S)
        yield client


def test_a_limit_that_halves_under_load_loses_nobody_and_comes_back(
    pressed: Client, plain: Plain, memory: SimulatedMemory, bytes_per_token: int
) -> None:
    expected = [plain.generate(prompt, max_tokens=TOKENS, ignore_eos=True).token_ids for prompt in PROMPTS]
    pressed.generate(STORY[4000:5200], max_tokens=4)
    calm = status_when(pressed, lambda status: status.kv_idle_bytes > 0)
    assert calm.memory_level is MemoryLevel.NORMAL
    assert calm.context_limit == CONTEXT
    answers: dict[int, Result] = {}

    def ask(place: int) -> None:
        answers[place] = pressed.generate(PROMPTS[place], max_tokens=TOKENS, ignore_eos=True)

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(CLIENTS)]
    for thread in threads:
        thread.start()
    status_when(pressed, lambda status: status.slots_used == 4)

    # Half of what there was, and less than those that run were promised: they stay, and nobody begins before they end.
    memory.free_bytes = RESERVE_BYTES + 600 * bytes_per_token
    short = status_when(pressed, lambda status: status.context_limit < CONTEXT)
    assert short.context_limit <= 600
    assert short.slots_used > 0
    assert short.kv_budget_bytes <= 600 * bytes_per_token
    with pytest.raises(LowMemory) as refusal:
        pressed.generate(STORY[:3000], max_tokens=4)
    assert refusal.value.numbers["full_context_limit"] == CONTEXT
    assert refusal.value.numbers["context_limit"] == short.context_limit
    assert refusal.value.retry_after_s is not None
    for thread in threads:
        thread.join()
    assert [answers[place].token_ids for place in range(CLIENTS)] == expected
    quiet = status_when(pressed, lambda status: status.slots_used == 0)
    assert quiet.requests_failed == 0
    assert quiet.kv_idle_bytes <= 600 * bytes_per_token

    # Into the reserve: nothing is kept that nobody waits for, and its pages are the system's again.
    memory.free_bytes = RESERVE_BYTES * 7 // 10
    tight = status_when(pressed, lambda status: status.memory_level is not MemoryLevel.NORMAL)
    assert tight.context_limit == 0
    assert status_when(pressed, lambda status: status.kv_idle_bytes == 0).slots_used == 0
    assert memory.held_bytes == 0
    with pytest.raises(LowMemory):
        pressed.generate("Hi", max_tokens=1)

    memory.free_bytes = RESERVE_BYTES + 4000 * bytes_per_token
    # Not with the first good reading: what comes and goes must not be promised.
    assert pressed.status().context_limit == 0
    back = status_when(pressed, lambda status: status.context_limit == CONTEXT)
    assert back.memory_level is MemoryLevel.NORMAL
    assert pressed.generate(PROMPTS[0], max_tokens=TOKENS, ignore_eos=True).token_ids == expected[0]


def test_background_work_gives_its_memory_to_nobody_and_ends_later(
    pressed: Client, plain: Plain, memory: SimulatedMemory, bytes_per_token: int
) -> None:
    expected = [plain.generate(prompt, max_tokens=TOKENS, ignore_eos=True).token_ids for prompt in PROMPTS[:3]]
    answers: dict[int, Result] = {}

    def ask(place: int) -> None:
        answers[place] = pressed.generate(PROMPTS[place], max_tokens=TOKENS, ignore_eos=True, priority="background")

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(3)]
    for thread in threads:
        thread.start()
    status_when(pressed, lambda status: status.slots_used == 3)
    memory.free_bytes = RESERVE_BYTES + 500 * bytes_per_token
    yielded = status_when(pressed, lambda status: status.requests_preempted > 0)
    assert yielded.slots_used + yielded.queued == 3
    for thread in threads:
        thread.join()
    assert [answers[place].token_ids for place in range(3)] == expected
    assert pressed.status().requests_failed == 0
