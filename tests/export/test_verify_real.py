"""The real model: what the whole export of SmolLM2-135M-Instruct computes, token for token."""

from __future__ import annotations

import pytest

from bise_export.architecture import spec_of
from bise_export.pipeline import ExportOptions, export
from bise_export.prompts import VERIFICATION, token_prompts
from bise_export.reference import Reference
from bise_export.runner import Runner
from bise_export.sources.open import open_checkpoint
from bise_export.verify import greedy_agreement, verify
from bise_proto.bundle import read_manifest

pytestmark = [pytest.mark.slow, pytest.mark.real_model]


class Silent:
    """Progress that nobody watches."""

    def step(self, name):
        pass

    def warn(self, text):
        pass

    def weights(self, parameters):
        pass

    def advance(self, parameters):
        pass


@pytest.fixture(scope="module")
def fp32_bundle(smollm2_gguf, tmp_path_factory):
    folder = tmp_path_factory.mktemp("smollm2") / "fp32"
    export(smollm2_gguf, folder, ExportOptions(precision="fp32", verify=False), Silent())
    return folder


def test_64_greedy_tokens_on_5_prompts_are_the_references(fp32_bundle, smollm2_gguf):
    bundle = read_manifest(fp32_bundle)
    prompts = token_prompts(fp32_bundle, bundle.tokenizer, VERIFICATION[:5])
    model = (fp32_bundle / bundle.graph.model_file).read_bytes()
    runner = Runner(fp32_bundle, model, bundle.graph.target, max(map(len, prompts)) + 64)
    checkpoint = open_checkpoint(smollm2_gguf)
    assert spec_of(bundle) == checkpoint.spec

    assert greedy_agreement(runner, Reference(checkpoint.spec, checkpoint.weights), prompts, tokens=64) == [64] * 5


def test_nothing_is_lost_at_fp32(fp32_bundle, smollm2_gguf):
    report = verify(fp32_bundle, open_checkpoint(smollm2_gguf))

    assert report.problems == []
    assert report.accuracy.top1_agreement == 1
    assert report.accuracy.mean_kl < 1e-9
    assert report.accuracy.max_logit_difference < 0.01
