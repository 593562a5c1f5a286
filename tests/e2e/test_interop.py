"""The real model in another engine: onnxruntime-genai and the daemon, on one bundle, say the same tokens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bise import Client
from bise_export.pipeline import ExportOptions, export
from bise_export.quant.recipes import Precision
from conftest import Quiet
from golden import oracle
from running import running

pytestmark = [pytest.mark.slow, pytest.mark.real_model, pytest.mark.timeout(400)]

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "greedy.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("precision", ["int4", "int8"])
def test_genai_says_what_the_daemon_says(
    smollm2_gguf: Path, tmp_path: Path, quiet: Quiet, precision: Precision
) -> None:
    """64 of 64 greedy tokens on 5 prompts, over the caches that are chosen when none is: int8 and float32."""
    folder = tmp_path / "bundle"
    export(smollm2_gguf, folder, ExportOptions(precision=precision, interop="genai", verify=False), quiet)
    prompts = [case["prompt"] for case in GOLDEN["cases"]]
    tokens = GOLDEN["max_tokens"]
    theirs = oracle.greedy(folder, prompts, tokens)

    assert [len(answer) for answer in theirs] == [tokens] * len(prompts)
    with running(folder, tmp_path, context=512, slots=2) as daemon, Client(daemon.address) as client:
        client.wait_until_serving(timeout=60)
        ours = [client.generate(prompt, max_tokens=tokens, ignore_eos=True).token_ids for prompt in prompts]
    assert [list(answer) for answer in ours] == theirs
