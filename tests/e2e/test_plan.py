"""The real model in 2, 4 and 8 bits, as a plan mixes them: exported for a size, served over a unix socket."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from bise import Client
from bise_export import findings
from bise_export.contents import Matrix
from bise_export.pipeline import ExportOptions, export
from bise_export.planning import Bits
from bise_export.runner import Runner
from bise_export.spec import ModelSpec
from bise_proto.bundle import read_manifest
from conftest import Quiet
from e2e.prompts import QUESTIONS
from running import running

pytestmark = [pytest.mark.slow, pytest.mark.real_model, pytest.mark.timeout(400)]

BITS = 3.5
TOKENS = 24


def lost_by_size(_spec: ModelSpec, _weights: Any, matrices: Sequence[Matrix], *_others: Any) -> dict[str, float]:
    """In place of measuring each matrix, which takes minutes: each loses as much as it is large."""
    return {matrix.name: matrix.rows * matrix.columns / 1e6 for matrix in matrices}


@pytest.fixture(scope="module")
def plan(smollm2_gguf: Path, tmp_path_factory: pytest.TempPathFactory, quiet: Quiet) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "plan"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(findings, "losses", lost_by_size)
        export(smollm2_gguf, folder, ExportOptions(precision="mixed", goal=Bits(BITS), verify=False), quiet)
    return folder


@pytest.fixture(scope="module")
def client(plan: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("daemon")
    with running(plan, folder, context=512, slots=4) as daemon, Client(daemon.address, timeout=120) as client:
        client.wait_until_serving(timeout=60)
        yield client


def test_the_plan_is_of_the_size_asked_for_and_mixes_formats(plan: Path) -> None:
    quantization = read_manifest(plan).quantization
    assert BITS - 0.05 < quantization.bits_per_weight <= BITS
    assert {each.format[:4] for each in quantization.classes} >= {"int2", "int4"}


def test_alone_and_in_a_batch_the_daemon_says_what_the_bare_graph_says(plan: Path, client: Client) -> None:
    """The weights lose too much at this size for sense; so the words must be the graph's own, token for token."""
    graph = read_manifest(plan).graph
    prompts = [client.count_tokens([{"role": "user", "content": question}]).token_ids for question in QUESTIONS]
    runner = Runner(plan, (plan / graph.model_file).read_bytes(), graph.target, max(map(len, prompts)) + TOKENS)
    expected = [tuple(runner.greedy(prompt, TOKENS)) for prompt in prompts]

    def answer(prompt: tuple[int, ...]) -> tuple[int, ...]:
        return client.generate(prompt, max_tokens=TOKENS, ignore_eos=True).token_ids

    assert [answer(prompt) for prompt in prompts] == expected
    together: dict[int, tuple[int, ...]] = {}
    threads = [
        threading.Thread(target=lambda at=at, prompt=prompt: together.update({at: answer(prompt)}))
        for at, prompt in enumerate(prompts)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[at] for at in range(len(prompts))] == expected
