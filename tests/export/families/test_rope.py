"""Rotary embedding as configs write it; the numbers themselves are measured against transformers in `test_parity`."""

from __future__ import annotations

from math import log, sqrt
from pathlib import Path

import pytest

from bise_export.errors import ExportError, SourceError, UnsupportedError
from bise_export.families.config import Config
from bise_export.families.rope import Rotary, read_rotary
from bise_export.rope_scaling import UNSCALED, RopeScaling

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
LONG = {
    "type": "longrope",
    "short_factor": [1.0] * 8,
    "long_factor": [1.0, 2, 3, 4, 5, 6, 7, 8],
    "original_max_position_embeddings": 4096,
}


def rotary(values: dict[str, object], head_dim: int = 16, context: int = 131072) -> Rotary:
    return read_rotary(Config(values, Path("config.json")), head_dim, context)


@pytest.mark.parametrize(
    "values",
    [{}, {"rope_scaling": None}, {"rope_scaling": {"type": "default"}}, {"rope_parameters": {"rope_type": "default"}}],
)
def test_plain_rope_is_read_in_old_and_new_form(values: dict[str, object]) -> None:
    assert rotary(values) == Rotary(10000.0, 16, UNSCALED, 131072)


@pytest.mark.parametrize("values", [{"rope_theta": 5e5}, {"rope_parameters": {"rope_theta": 5e5}}])
def test_theta_may_be_inside_or_beside(values: dict[str, object]) -> None:
    assert rotary(values).theta == 5e5


def test_llama3_keeps_short_waves_and_divides_long_ones() -> None:
    divisors = rotary({"rope_theta": 500000.0, "rope_scaling": LLAMA3}, head_dim=128).scaling.divisors

    assert divisors[0] == 1
    assert divisors[-1] == 8
    assert divisors == tuple(sorted(divisors))
    assert len(set(divisors)) > 4  # some in between


@pytest.mark.parametrize("form", [("rope_scaling", "type"), ("rope_scaling", "rope_type"), ("rope_parameters", "type")])
def test_linear_divides_every_frequency(form: tuple[str, str]) -> None:
    section, kind = form
    assert rotary({section: {kind: "linear", "factor": 4}}).scaling == RopeScaling((4.0,) * 8)


def test_yarn_magnifies_by_its_attention_factor() -> None:
    yarn = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}

    assert rotary({"rope_scaling": yarn}).scaling.magnitude == pytest.approx(0.1 * log(4) + 1)
    assert rotary({"rope_scaling": yarn | {"attention_factor": 1.5}}).scaling.magnitude == 1.5
    assert rotary({"rope_scaling": yarn | {"mscale": 1.0, "mscale_all_dim": 1.0}}).scaling.magnitude == 1


def test_yarn_stretches_a_context_that_was_left_as_trained() -> None:
    yarn = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}

    assert rotary({"rope_scaling": yarn}, context=32768).context == 131072


def test_longrope_has_two_sets_and_the_stretch_of_the_context_gives_the_magnitude() -> None:
    scaling = rotary({"rope_scaling": LONG}).scaling

    assert scaling.magnitude == pytest.approx(sqrt(1 + log(32) / log(4096)))
    assert scaling.for_context(4096) == RopeScaling((1.0,) * 8, scaling.magnitude)
    assert scaling.for_context(4097) == RopeScaling(scaling.long_divisors, scaling.magnitude)
    assert scaling.for_context(4097).for_context(10) == scaling.for_context(4097)


def test_the_original_context_may_be_beside_the_section() -> None:
    section = {key: value for key, value in LONG.items() if key != "original_max_position_embeddings"}
    values = {"rope_scaling": section, "original_max_position_embeddings": 8192}

    assert rotary(values).scaling.short_context == 8192


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"rope_scaling": {"type": "dynamic", "factor": 2}}, UnsupportedError, "rope_scaling asks for .*'dynamic'"),
        ({"rope_parameters": {"type": "yarnish"}}, UnsupportedError, "rope_parameters asks for .*'yarnish'"),
        ({"rope_scaling": {"mrope_section": [8, 8]}}, UnsupportedError, "'mrope_section'"),
        ({"rope_scaling": LLAMA3 | {"llama_4_scaling_beta": 0.1}}, UnsupportedError, "llama_4_scaling_beta"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1.0}}}, UnsupportedError, "differs by layer"),
        ({"rope_scaling": {"type": "linear"}}, SourceError, "factor: expected a number, got nothing"),
        ({"rope_scaling": {"type": "linear", "factor": -4}}, SourceError, "factor: expected more than 0"),
        ({"rope_scaling": {"type": "linear", "factor": 0}}, SourceError, "factor: expected more than 0"),
        ({"rope_scaling": {"type": "yarn", "factor": 0.0}}, SourceError, "factor: expected more than 0"),
        ({"rope_scaling": {"type": "yarn", "beta_fast": -1.0}}, SourceError, "beta_fast: expected more than 0"),
        (
            {"rope_scaling": {"type": "yarn", "factor": 4.0, "mscale": 1.0, "mscale_all_dim": -7.0}},
            SourceError,
            "mscale_all_dim: expected more than 0",
        ),
        ({"rope_scaling": LLAMA3 | {"factor": 0}}, SourceError, "factor: expected more than 0"),
        ({"rope_scaling": LLAMA3 | {"high_freq_factor": 1}}, SourceError, "high_freq_factor: expected more than"),
        ({"rope_scaling": LONG | {"long_factor": [1.0] * 7}}, SourceError, "long_factor: expected a list of 8"),
        ({"rope_scaling": LONG | {"short_factor": ["1"] * 8}}, SourceError, "short_factor: expected a number"),
        ({"rope_scaling": LONG | {"original_max_position_embeddings": 1 << 20}}, SourceError, "expected 2 to 131072"),
        ({"partial_rotary_factor": 1.5}, SourceError, "partial_rotary_factor: expected more than 0"),
        ({"rope_theta": 1.0}, SourceError, "rope_theta: expected more than 1"),
    ],
)
def test_what_is_wrong_or_unknown_is_named(values: dict[str, object], error: type[ExportError], message: str) -> None:
    with pytest.raises(error, match=message):
        rotary(values)


def test_half_a_longrope_is_refused() -> None:
    with pytest.raises(SourceError, match="long factors together with the context"):
        RopeScaling(long_divisors=(1.0,))
