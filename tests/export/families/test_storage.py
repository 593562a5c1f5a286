"""Weights as each family stores them: fused, renamed, shifted, or beside what is no part of the decoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bise_export.errors import SourceError
from bise_export.pipeline import ExportOptions, export
from bise_export.sources.open import open_checkpoint
from golden import checkpoints, families, tiny


@pytest.mark.parametrize("name", families.SPECS)
def test_every_weight_is_found_whole_and_by_rows(name: str, tmp_path: Path) -> None:
    found = open_checkpoint(families.write(tmp_path, name)).weights
    expected = tiny.weights(families.SPECS[name])

    assert found.keys() == expected.keys()
    for weight, values in expected.items():
        np.testing.assert_allclose(found[weight].rows(0, len(values)), values, rtol=0, atol=1e-7)
        np.testing.assert_allclose(found[weight].rows(5, 9), values[5:9], rtol=0, atol=1e-7)


def test_what_sees_images_is_left_out_and_said_so(tmp_path: Path, quiet) -> None:
    source = families.write(tmp_path / "checkpoint", "mistral3")
    parameters = sum(int(np.prod(shape)) for shape in families.OTHERS["mistral3"].values())

    bundle = export(source, tmp_path / "bundle", ExportOptions(precision="fp32", verify=False), quiet)

    notes = [f"image input (vision tower and projector) is left out: {parameters:,} parameters"]
    assert list(bundle.provenance.notes) == notes


def test_the_names_transformers_5_saves_are_known_too(tmp_path: Path) -> None:
    spec = families.SPECS["mistral3"]
    weights = {
        name if name.startswith("lm_head") else name.replace("model.", "model.language_model.", 1): values
        for name, values in tiny.weights(spec).items()
    }
    weights["model.vision_tower.ln_pre.weight"] = np.zeros(16, np.float32)
    folder = families.write(tmp_path, "mistral3")
    checkpoints.write_safetensors(folder / "model.safetensors", weights)

    checkpoint = open_checkpoint(folder)

    assert checkpoint.notes == ("image input (vision tower and projector) is left out: 16 parameters",)


@pytest.mark.parametrize(("context", "kind"), [(16, "short"), (17, "long"), (None, "long")])
def test_the_context_chooses_the_factors_and_that_is_said(context, kind, tmp_path, quiet):
    source = families.write(tmp_path / "checkpoint", "phi4_mini")
    scaling = families.SPECS["phi4_mini"].rope_scaling

    bundle = export(source, tmp_path / "bundle", ExportOptions(precision="fp32", verify=False, context=context), quiet)

    chosen = {"short": scaling.divisors, "long": scaling.long_divisors}[kind]
    assert tuple(bundle.architecture.rope_scaling.divisors) == chosen
    (note,) = bundle.provenance.notes
    assert note.startswith(f"rotary embedding by its {kind} factors")


def test_a_model_without_such_choices_has_no_notes(tmp_path, quiet):
    source = families.write(tmp_path / "checkpoint", "llama3")

    assert not export(
        source, tmp_path / "bundle", ExportOptions(precision="fp32", verify=False), quiet
    ).provenance.notes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.layers.0.self_attn.qkv_proj.weight": (190, 64)}, "qkv_proj.weight: expected 192 rows by the config"),
        ({"model.layers.0.self_attn.q_proj.weight": (64, 64)}, "expected .*q_proj.weight once"),
        ({"model.layers.3.self_attn.qkv_proj.weight": (192, 64)}, "layers.3.self_attn.qkv_proj.weight"),
        ({"model.layers.0.self_attn.qkv_proj.bias": (192,)}, "qkv_proj.bias"),
    ],
)
def test_fused_weights_of_another_model_are_refused(
    tmp_path: Path, change: dict[str, tuple[int, ...]], message: str
) -> None:
    folder = families.write(tmp_path, "phi3")
    stored = open_stored(folder) | {name: np.zeros(shape, np.float32) for name, shape in change.items()}
    checkpoints.write_safetensors(folder / "model.safetensors", stored)

    with pytest.raises(SourceError, match=message):
        open_checkpoint(folder)


def open_stored(folder: Path) -> dict[str, np.ndarray]:
    from bise_export.sources.safetensors import read_safetensors

    stored = read_safetensors(folder / "model.safetensors")
    return {name: weight.rows(0, weight.shape[0]) for name, weight in stored.items()}
