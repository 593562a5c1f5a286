"""Tokens of cache in the memory at hand, and bundles that do not belong on a device."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bise_daemon.memory.fit import check_fit, check_load, kv_budget_tokens, reserve_bytes
from bise_daemon.memory.governor import Governor, Rules
from bise_daemon.memory.reading import Reading
from bise_proto.bundle import BundleError
from bise_proto.v1 import bundle_pb2

_MIB = 1 << 20
_BYTES_PER_TOKEN = 1 << 10
_LIMIT_BYTES = 2048 * _MIB
_RESERVE_BYTES = 256 * _MIB


def reading(available_bytes: int) -> Reading:
    """A machine of 2 GiB."""
    return Reading(available_bytes, _LIMIT_BYTES, 0, 0)


def bundle(weight_bytes: int = 100 * _MIB) -> bundle_pb2.Bundle:
    """A bundle of two weight files and some others."""
    return bundle_pb2.Bundle(
        name="tiny",
        graph=bundle_pb2.Graph(context=4096, model_file="model.onnx", weight_files=["a.data", "b.data"]),
        kv_cache=bundle_pb2.KvCache(bytes_per_token=_BYTES_PER_TOKEN),
        files=[
            bundle_pb2.File(path="model.onnx", size_bytes=1 << 40),
            bundle_pb2.File(path="a.data", size_bytes=weight_bytes - weight_bytes // 4),
            bundle_pb2.File(path="b.data", size_bytes=weight_bytes // 4),
        ],
    )


@pytest.mark.parametrize(
    ("limit_mib", "reserve_mib"), [(0, 256), (512, 256), (2560, 256), (4000, 400), (10_240, 1024), (1 << 17, 1024)]
)
def test_the_reserve_is_a_tenth_within_bounds(limit_mib: int, reserve_mib: int) -> None:
    assert reserve_bytes(limit_mib * _MIB) == reserve_mib * _MIB


@pytest.mark.parametrize(
    ("usable_bytes", "tokens"), [(-5, 0), (0, 0), (999, 0), (1000, 1), (50_500, 50), (1 << 40, 64)]
)
def test_a_budget_is_whole_tokens_up_to_the_most(usable_bytes: int, tokens: int) -> None:
    assert kv_budget_tokens(usable_bytes, 1000, 64) == tokens


@pytest.mark.parametrize(("tokens", "budget"), [(100, 100), (101, 101), (999, 999), (1000, 1000), (5000, 1000)])
def test_what_fits_beside_the_reserve_is_the_budget(tokens: int, budget: int) -> None:
    assert check_fit(bundle(), reading(_RESERVE_BYTES + tokens * _BYTES_PER_TOKEN), 100, 1000) == budget


def test_too_little_is_refused_with_the_numbers() -> None:
    with pytest.raises(BundleError) as refusal:
        check_fit(bundle(), reading(_RESERVE_BYTES + 2047 * _BYTES_PER_TOKEN), 2048, 4096)
    assert str(refusal.value) == (
        "tiny: expected 258 MiB of available memory (2 MiB for at least 2048 tokens of 1024 bytes, 256 MiB that stay "
        "free), got 257 MiB of 2048: the largest context that fits is 2047 tokens. Free memory, or export it smaller."
    )


def test_weights_that_cannot_fit_are_refused_before_they_are_read() -> None:
    needed_bytes = (108 + 32) * _MIB + 1024 * _BYTES_PER_TOKEN + _RESERVE_BYTES
    check_load(bundle(), reading(needed_bytes), 1024)
    with pytest.raises(BundleError) as refusal:
        check_load(bundle(), reading(needed_bytes - 1), 1024)
    assert str(refusal.value) == (
        "tiny: expected 397 MiB of available memory (140 MiB to load the weights, 1 MiB for at least 1024 tokens of "
        "1024 bytes, 256 MiB that stay free), got 396 MiB of 2048: the largest context that fits is 1023 tokens. "
        "Free memory, or export it smaller."
    )


@pytest.mark.parametrize(("weight_mib", "tokens"), [(1000, 0), (100, 4096)])
def test_the_context_that_would_fit_is_within_reason(weight_mib: int, tokens: int) -> None:
    with pytest.raises(BundleError, match=f"the largest context that fits is {tokens} tokens"):
        check_load(bundle(weight_mib * _MIB), reading(1000 * _MIB), 1 << 22)


# Private growth at load, over weight files, in MiB: see `fit.py`.
@pytest.mark.parametrize(
    ("weight_mib", "grown_mib"), [(97.0, 114.3), (150.9, 177.3), (515.2, 518.5), (85.2, 105.8), (11_921, 12_779)]
)
def test_what_was_measured_would_not_have_been_underestimated(weight_mib: float, grown_mib: float) -> None:
    machine = Reading(int(grown_mib * _MIB) + _RESERVE_BYTES, 0, 0, 0)
    with pytest.raises(BundleError):
        check_load(bundle(int(weight_mib * _MIB)), machine, 0)


@given(st.integers(0, 1 << 44), st.integers(0, 1 << 44), st.integers(1, 1 << 26))
def test_the_governor_begins_with_the_same_number(available_bytes: int, limit_bytes: int, most_tokens: int) -> None:
    now = Reading(max(available_bytes, reserve_bytes(limit_bytes)), limit_bytes, 0, 0)
    budget_tokens = check_fit(bundle(), now, 0, most_tokens)
    assert budget_tokens * _BYTES_PER_TOKEN <= now.available_bytes
    verdict = Governor(Rules(_BYTES_PER_TOKEN, most_tokens, most_tokens)).update(now, 0.0, 0)
    assert verdict.kv_budget_tokens == budget_tokens
