"""From a bundle's folder to something that serves, or a reason why not."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from bise_daemon.config.load import config_from_flags
from bise_daemon.engine.session import SessionError
from bise_daemon.memory.readers import Memory
from bise_daemon.models import model as model_module
from bise_daemon.models.model import Model, load_model
from bise_proto.bundle import MANIFEST, BundleError, describe, read_manifest

_MIB = 1 << 20
# What memory.fit leaves to the system.
_RESERVE_BYTES = 256 * _MIB


def load(folder: Path, **settings: Any) -> Model:
    listen = f"unix://{folder}/unused.sock"
    return load_model(config_from_flags({"bundle": str(folder), "listen": listen, "threads": 1, **settings}))


@pytest.fixture
def available(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets how much memory the machine says it has."""

    def say(available_bytes: int) -> None:
        monkeypatch.setattr(model_module, "read_memory", lambda: Memory(available_bytes, 0, 0))

    return say


@pytest.fixture
def broken(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A bundle of one's own, to break."""
    return shutil.copytree(tiny_bundle, tmp_path / "broken")


def test_a_loaded_model_is_ready(tiny_bundle: Path) -> None:
    model = load(tiny_bundle, slots=2)
    assert model.limits.slots == 2
    assert model.limits.context_tokens == read_manifest(tiny_bundle).graph.context
    assert model.limits.kv_budget_tokens == 2 * model.limits.context_tokens
    assert model.load_ms > 0
    assert model.session.decode(0, [5], [0]).shape == (1, 320)
    assert model.tokenizer.encode("Hi")


def test_what_the_first_step_wrote_is_gone(tiny_bundle: Path) -> None:
    model = load(tiny_bundle, slots=1)
    assert not any(model.cache.rows(layer, part, 0, 1).any() for layer in range(3) for part in (0, 1))


@pytest.mark.parametrize(("asked", "given"), [(16, 16), (100, 100), (10_000, 256)])
def test_the_context_can_be_lowered_and_not_raised(tiny_bundle: Path, asked: int, given: int) -> None:
    model = load(tiny_bundle, slots=1, context=asked)
    assert model.limits.context_tokens == given
    assert model.cache.shape.context_tokens == given


def test_little_memory_lowers_what_requests_may_hold_together(tiny_bundle: Path, available: Any) -> None:
    bytes_per_token = read_manifest(tiny_bundle).kv_cache.bytes_per_token
    available(_RESERVE_BYTES + 300 * bytes_per_token)
    limits = load(tiny_bundle, slots=4).limits
    assert (limits.kv_budget_tokens, limits.context_tokens) == (300, 256)


def test_less_memory_lowers_what_one_may_hold(tiny_bundle: Path, available: Any) -> None:
    bytes_per_token = read_manifest(tiny_bundle).kv_cache.bytes_per_token
    available(_RESERVE_BYTES + 70 * bytes_per_token)
    limits = load(tiny_bundle, slots=4, prefill_chunk_tokens=64).limits
    assert (limits.kv_budget_tokens, limits.context_tokens) == (70, 70)


def test_too_little_memory_is_a_refusal_with_the_numbers(tiny_bundle: Path, available: Any) -> None:
    bytes_per_token = read_manifest(tiny_bundle).kv_cache.bytes_per_token
    available(_RESERVE_BYTES + 255 * bytes_per_token)
    with pytest.raises(BundleError) as refusal:
        load(tiny_bundle, prefill_chunk_tokens=256)
    message = str(refusal.value)
    assert "at least 256 tokens" in message
    assert f"of {bytes_per_token} bytes" in message
    assert "got 256 MiB" in message
    assert "Free memory, or export it smaller." in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: setattr(b.architecture, "num_layers", 1 << 30), "architecture.num_layers: expected 1 to 1024, got"),
        (lambda b: setattr(b.architecture, "num_kv_heads", 0), "architecture.num_kv_heads: expected 1 to 1024, got 0"),
        (lambda b: setattr(b.architecture, "head_dim", 1 << 31), "architecture.head_dim: expected 1 to 1024, got"),
        (lambda b: setattr(b.architecture, "vocab_size", 1 << 31), "architecture.vocab_size: expected 1 to 2097152"),
        (lambda b: setattr(b.graph, "context", 0), "graph.context: expected 1 to 16777216, got 0"),
        (
            lambda b: setattr(b.kv_cache, "dtype", "object"),
            "kv_cache.dtype: expected one of int8, float16, float32, got",
        ),
        (lambda b: setattr(b.kv_cache, "dtype", "float16"), "kv_cache.bytes_per_token: expected 384, got 768"),
    ],
)
def test_sizes_of_a_manifest_are_checked_before_anything_is_made(broken: Path, change: Any, message: str) -> None:
    rewrite(broken, change)
    with pytest.raises(BundleError) as refusal:
        load(broken)
    assert f"{broken / MANIFEST}: {message}" in str(refusal.value)
    assert str(refusal.value).endswith("Export the model again.")


def test_a_bundle_for_another_target_is_refused(broken: Path) -> None:
    rewrite(broken, lambda bundle: setattr(bundle.graph, "target", "cuda"))
    with pytest.raises(SessionError, match="expected a bundle for cpu"):
        load(broken)


def test_a_file_that_changed_is_never_loaded(broken: Path) -> None:
    path = broken / "tokenizer/tokenizer.json"
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"tokenizer\.json: expected sha256"):
        load(broken)


def test_a_graph_that_is_sound_but_no_graph_is_one_line(broken: Path) -> None:
    (broken / "model.onnx").write_bytes(b"not a graph")

    def relist(bundle: Any) -> None:
        for file in bundle.files:
            if file.path == "model.onnx":
                file.CopyFrom(describe(broken, "model.onnx"))

    rewrite(broken, relist)
    with pytest.raises(SessionError) as refusal:
        load(broken)
    assert "\n" not in str(refusal.value)


def rewrite(folder: Path, change: Any) -> None:
    """Changes the manifest of a bundle."""
    from google.protobuf import json_format

    bundle = read_manifest(folder)
    change(bundle)
    (folder / MANIFEST).write_text(json_format.MessageToJson(bundle, preserving_proto_field_name=True))
