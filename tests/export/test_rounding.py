"""Compensated exports: which matrices, within which memory, and the same bytes however the work is cut and resumed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bise_export import calibration, contents, pipeline, rounding
from bise_export.budget import UNLIMITED, Ceiling
from bise_export.errors import ExportError, UnsupportedError
from bise_export.pipeline import ExportOptions, export
from bise_export.planning import Bits
from bise_export.quant.recipes import recipe
from bise_export.reference import Reference
from bise_export.rounding import compensating_bytes, rounding_for, rounding_of, store_compensated
from bise_export.verify import verify
from bise_proto.bundle import read_manifest
from golden import families, tiny
from golden.in_memory import weights_of

COMPENSATED = ExportOptions(precision="int4", rounding="compensated", kv="int8", verify=False)
PROMPTS = [[5, 9, 200, 31, 7], [1, 300, 12]]
RECIPE = recipe("int4", 32, "cpu", vocabulary="int4", rounding="compensated")


@pytest.fixture(autouse=True)
def few_texts(monkeypatch):
    """Two of the texts: tiny models learn nothing from more."""
    monkeypatch.setattr(pipeline, "TEXTS", rounding.TEXTS[:2])


def bytes_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def compensated_matrices(spec):
    tied = spec.tied_embeddings
    return [each for each in contents.matrices(spec, RECIPE) if rounding_of(each, RECIPE, tied=tied) == "compensated"]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(families.SPECS))
def test_every_matrix_of_every_family_is_stored_once_with_its_own_inputs(name):
    spec = families.SPECS[name]
    weights, stored, seen = weights_of(spec), {}, {}
    matrices = compensated_matrices(spec)

    store_compensated(
        spec, weights, matrices, PROMPTS, 2, UNLIMITED, lambda matrix, found, _: stored.setdefault(matrix.name, found)
    )

    hidden = Reference(spec, weights, observe=lambda projection, x: seen.setdefault(projection, x)).hidden(PROMPTS)
    seen["lm_head"] = np.concatenate(hidden)
    assert sorted(stored) == sorted(each.name for each in matrices)
    for matrix in matrices:
        x = seen["lm_head" if matrix.kind == "embedding" else matrix.parts[0].removesuffix(".weight")]
        np.testing.assert_allclose(stored[matrix.name].importance, np.square(x).mean(0), rtol=1e-4, atol=1e-12)


def test_what_is_multiplied_with_in_few_bits_is_compensated():
    def roundings(base, spec):
        found = contents.matrices(spec, base)
        return {each.kind: rounding_of(each, base, tied=spec.tied_embeddings) for each in found}

    few = {"attention": "compensated", "mlp": "compensated"}
    untied, tied = tiny.MISTRAL, replace(tiny.MISTRAL, tied_embeddings=True)
    assert not untied.tied_embeddings
    assert roundings(RECIPE, untied) == {**few, "embedding": "nearest", "head": "compensated"}
    assert roundings(RECIPE, tied) == {**few, "embedding": "compensated"}
    eight = recipe("int4", 32, "cpu", rounding="compensated")
    assert roundings(eight, untied) == {**few, "embedding": "nearest", "head": "nearest"}
    assert set(roundings(recipe("int4", 32, "cpu"), untied).values()) == {"nearest"}
    assert set(roundings(recipe("fp32", 32, "cpu"), untied).values()) == {""}


def test_a_plan_is_compensated_unless_the_model_is_large_or_it_is_asked_not_to(monkeypatch):
    spec = tiny.MISTRAL
    assert rounding_for(None, "mixed", spec) == "compensated"
    assert rounding_for("nearest", "mixed", spec) == "nearest"
    assert rounding_for(None, "int4", spec) == "nearest"
    monkeypatch.setattr(calibration, "_LARGE_PARAMETERS", 1000)
    assert rounding_for(None, "mixed", spec) == "nearest"
    assert rounding_for("compensated", "int4", spec) == "compensated"
    with pytest.raises(UnsupportedError, match=r"--rounding compensated: expected int4 .* got int8"):
        recipe("int8", 32, "cpu", rounding="compensated")


@pytest.mark.slow
def test_a_compensated_bundle_verifies_and_says_what_it_is(tiny_huggingface, tmp_path, quiet):
    export(tiny_huggingface, tmp_path / "bundle", COMPENSATED, quiet)

    assert verify(tmp_path / "bundle").problems == []
    found = {(each.name, each.rounding) for each in read_manifest(tmp_path / "bundle").quantization.classes}
    assert found >= {("attention", "compensated"), ("mlp", "compensated"), ("embedding", "nearest"), ("norm", "")}


@pytest.mark.slow
@pytest.mark.parametrize("options", [COMPENSATED, ExportOptions(precision="mixed", goal=Bits(5), verify=False)])
def test_threads_ceiling_and_panels_beside_do_not_show(tiny_huggingface, tmp_path, quiet, options, monkeypatch):
    monkeypatch.setattr(rounding, "PANEL_ROWS", 64)  # several a matrix
    export(tiny_huggingface, tmp_path / "one", replace(options, threads=1), quiet)
    export(tiny_huggingface, tmp_path / "other", replace(options, threads=3, max_memory_bytes=2 << 30), quiet)

    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "other")


@pytest.mark.slow
def test_rounding_changes_bytes_and_not_sizes(tiny_huggingface, tmp_path, quiet):
    export(tiny_huggingface, tmp_path / "one", COMPENSATED, quiet)
    export(tiny_huggingface, tmp_path / "other", replace(COMPENSATED, rounding="nearest"), quiet)

    one, other = ((tmp_path / name / "model.onnx.data").read_bytes() for name in ("one", "other"))
    assert len(one) == len(other)
    assert one != other


class Interrupted:
    """Ctrl-C once so many matrices' parameters are written."""

    def __init__(self, parameters):
        self.left, self.writing, self.total = parameters, False, 0

    def step(self, name):
        self.writing = name.startswith("writing")

    def warn(self, text):
        raise AssertionError(text)

    def weights(self, parameters):
        self.total = parameters

    def advance(self, parameters):
        self.left -= parameters * self.writing
        if self.left < 0:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_interrupted_on_the_way_it_goes_on_to_the_same_bytes(tiny_huggingface, tmp_path, quiet):
    export(tiny_huggingface, tmp_path / "whole", COMPENSATED, quiet)
    parameters = read_manifest(tmp_path / "whole").architecture.parameters

    for share in (0.6, 0.2):
        with pytest.raises(KeyboardInterrupt):
            export(tiny_huggingface, tmp_path / "bundle", COMPENSATED, Interrupted(share * parameters))
    last = Interrupted(parameters)
    export(tiny_huggingface, tmp_path / "bundle", COMPENSATED, last)

    assert bytes_of(tmp_path / "bundle") == bytes_of(tmp_path / "whole")
    assert 0 < last.total < 0.5 * parameters


def test_too_little_memory_is_refused_with_the_numbers_and_the_way_out():
    spec = tiny.MISTRAL
    matrices = compensated_matrices(spec)
    needed = compensating_bytes(spec, matrices, PROMPTS)

    with pytest.raises(ExportError, match=r"--max-memory .* to compensate roundings.* or --rounding nearest"):
        store_compensated(spec, weights_of(spec), matrices, PROMPTS, 2, Ceiling(needed - 1, lambda: 0), lambda *_: None)


@pytest.mark.slow
def test_threads_are_as_many_as_there_is_room_for():
    spec = tiny.MISTRAL
    matrices, found = compensated_matrices(spec), []
    needed = compensating_bytes(spec, matrices, PROMPTS)

    for room in (needed, 100 * needed):
        store_compensated(
            spec, weights_of(spec), matrices, PROMPTS, 4, Ceiling(room, lambda: 0), lambda *each: found.append(each)
        )

    largest = max(matrices, key=lambda each: each.columns)
    first, second = (pieces for matrix, _, pieces in found if matrix.name == largest.name)
    assert (second.threads, second.piece_bytes) == (4, first.piece_bytes)
    assert first.threads >= 1
