"""Every family as it lies on Hugging Face, exported, against transformers' logits of the same files."""

from __future__ import annotations

import numpy as np
import pytest

from bise_export.pipeline import ExportOptions, export
from bise_export.reference import Reference
from bise_export.runner import Runner
from bise_export.sources.open import open_checkpoint
from bise_export.verify import verify
from golden import families
from golden.make_logits import FAMILY_PROMPTS, LOGITS, PROMPTS

# Measured: at most 9e-6 with numpy and 6e-6 in onnxruntime (both phi4_mini), where logits reach 4.
_TOLERANCE = 2e-5


def contexts(name):
    """Bundle context to the prompts that transformers would read with the same rotary embedding."""
    short = families.SPECS[name].rope_scaling.short_context
    return {None: FAMILY_PROMPTS} if short is None else {short: ("short",), None: ("long",)}


@pytest.mark.parametrize("name", families.SPECS)
def test_the_reference_agrees_with_transformers(name, tmp_path):
    golden = np.load(LOGITS)
    checkpoint = open_checkpoint(families.write(tmp_path / "checkpoint", name))
    reference = Reference(checkpoint.spec, checkpoint.weights)

    assert checkpoint.spec == families.SPECS[name]
    for key, logits in zip(FAMILY_PROMPTS, reference.logits([PROMPTS[key] for key in FAMILY_PROMPTS]), strict=True):
        assert golden[f"{name}/{key}"].std() > 0.5  # so that the tolerance means something
        np.testing.assert_allclose(logits, golden[f"{name}/{key}"], rtol=0, atol=_TOLERANCE)


@pytest.mark.parametrize("name", families.SPECS)
def test_the_graph_agrees_with_transformers(name, tmp_path, quiet):
    golden = np.load(LOGITS)
    source = families.write(tmp_path / "checkpoint", name)
    for context, keys in contexts(name).items():
        folder = tmp_path / f"bundle-{context}"
        export(source, folder, ExportOptions(precision="fp32", context=context, verify=False), quiet)
        runner = Runner(folder, (folder / "model.onnx").read_bytes(), "cpu", 64)

        assert runner.warnings == ()
        for key in keys:
            np.testing.assert_allclose(runner.logits(PROMPTS[key]), golden[f"{name}/{key}"], rtol=0, atol=_TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("name", families.SPECS)
@pytest.mark.parametrize(("precision", "kv"), [("int4", "int8"), ("int8", "fp32"), ("fp16", "fp16")])
def test_every_kind_of_bundle_verifies(name, precision, kv, tmp_path, quiet):
    source = families.write(tmp_path / "checkpoint", name)
    export(source, tmp_path / "bundle", ExportOptions(precision=precision, kv=kv, verify=False), quiet)

    report = verify(tmp_path / "bundle", open_checkpoint(source))

    assert report.problems == []
    assert report.accuracy.mean_kl < 0.3


def test_every_config_is_of_a_model_that_feels_it():
    # A scaling, window or cap that the prompts don't reach would be no test.
    longest = max(map(len, PROMPTS.values()))
    for name, spec in families.SPECS.items():
        assert spec.sliding_window is None or spec.sliding_window < longest, name
        assert spec.rope_scaling.short_context is None or spec.rope_scaling.short_context < longest, name
