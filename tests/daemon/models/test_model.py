"""From a bundle's folder to something that serves, or a reason why not."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bise_daemon.config.load import config_from_flags
from bise_daemon.engine.session import SessionError
from bise_daemon.memory.reading import Reading
from bise_daemon.models import model as model_module
from bise_daemon.models.model import Model, load_model
from bise_export.pipeline import ExportOptions, export
from bise_proto.bundle import FOREIGN, MANIFEST, BundleError, describe, read_manifest
from conftest import Quiet
from golden import checkpoints, tiny

_MIB = 1 << 20
# What memory.fit leaves to the system.
_RESERVE_BYTES = 256 * _MIB
PREFIXES = [{"name": "short", "prompt": "abcdefgh"}, {"name": "long", "prompt": "The wind blew over the la"}]


def load(folder: Path, **settings: Any) -> Model:
    listen = f"unix://{folder}/unused.sock"
    return load_model(config_from_flags({"bundle": str(folder), "listen": listen, "threads": 1, **settings}))


@pytest.fixture
def available(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets how much memory the machine says it has, before and after the weights are loaded."""

    def say(after_bytes: int, before_bytes: int = 1 << 40) -> None:
        readings = iter([Reading(before_bytes, 0, 0, 0), Reading(after_bytes, 0, 0, 0)])
        monkeypatch.setattr(model_module, "read_memory", lambda: next(readings))

    return say


@pytest.fixture(scope="module")
def int8_cache_bundle(tmp_path_factory: pytest.TempPathFactory, quiet: Quiet) -> Path:
    """A tiny llama as it is exported when nothing is chosen: int4 weights, int8 cache."""
    folder = tmp_path_factory.mktemp("bundles")
    source = checkpoints.write_huggingface(folder / "checkpoint", tiny.LLAMA, tiny.weights(tiny.LLAMA))
    export(source, folder / "tiny", ExportOptions(verify=False), quiet)
    return folder / "tiny"


@pytest.fixture
def served(int8_cache_bundle: Path, tmp_path: Path) -> Path:
    """A bundle of one's own with an int8 cache, and no state beside it."""
    return shutil.copytree(int8_cache_bundle, tmp_path / "served")


@pytest.fixture
def fused(tmp_path: Path, quiet: Quiet) -> Path:
    """A bundle over an int8 cache, with one way to attend."""
    source = checkpoints.write_huggingface(tmp_path / "checkpoint", tiny.LLAMA, tiny.weights(tiny.LLAMA))
    export(source, tmp_path / "fused", ExportOptions(prompt_attention="fused", verify=False), quiet)
    return tmp_path / "fused"


def calibrations(folder: Path) -> list[Path]:
    """What was measured for a bundle."""
    return list(folder.with_name(f"{folder.name}.state").glob("*.calibration.json"))


@pytest.fixture
def broken(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A bundle of one's own, to break."""
    return shutil.copytree(tiny_bundle, tmp_path / "broken")


def test_a_loaded_model_is_ready(tiny_bundle: Path) -> None:
    model = load(tiny_bundle, slots=2, prefix_slots=1)
    assert (model.limits.slots, model.limits.spare_slots) == (2, 1)
    assert model.limits.context_tokens == read_manifest(tiny_bundle).graph.context
    assert model.limits.kv_budget_tokens == 3 * model.limits.context_tokens
    assert model.limits.idle_tokens == model.limits.context_tokens
    assert model.load_ms >= model.calibration_ms
    assert model.session.decode(0, [5], [0]).shape == (1, 320)
    assert model.tokenizer.encode("Hi")


def test_settings_reach_the_scheduler(served: Path) -> None:
    limits = load(served, step_ms=7.0, ageing_ms=70.0, draft_tokens=3, prefix_tokens=20, prefill_chunk_tokens=9).limits
    assert (limits.step_ms, limits.ageing_ms, limits.draft_tokens) == (7, 70, 3)
    assert (limits.idle_tokens, limits.prefill_chunk_tokens) == (20, 9)


def test_a_float_cache_is_used_with_its_precautions(tiny_bundle: Path, served: Path) -> None:
    assert read_manifest(tiny_bundle).kv_cache.dtype == "float32"
    assert read_manifest(served).graph.prompt_attention == "float"
    for folder, wanted in ((tiny_bundle, (2, 0, False, False)), (served, (1, 8, False, True))):
        limits = load(folder).limits
        assert (limits.smallest_chunk, limits.draft_tokens, limits.one_way, limits.mixes) == wanted


def test_answers_are_prefixes_where_prompts_attend_as_they_do(fused: Path) -> None:
    limits = load(fused).limits
    assert (limits.smallest_chunk, limits.one_way, limits.rides) == (1, True, True)


def test_another_exporters_graph_is_used_with_them_too(served: Path) -> None:
    assert read_manifest(served).kv_cache.dtype == "int8"
    rewrite(served, lambda bundle: setattr(bundle.provenance, "source_kind", FOREIGN))
    limits = load(served).limits
    assert (limits.smallest_chunk, limits.draft_tokens, limits.one_way) == (2, 0, False)


def test_what_the_first_steps_wrote_is_gone(tiny_bundle: Path) -> None:
    model = load(tiny_bundle, slots=1)
    assert not any(model.cache.rows(layer, part, 0, 1).any() for layer in range(3) for part in (0, 1))


@pytest.mark.parametrize(("asked", "given"), [(16, 16), (100, 100), (10_000, 256)])
def test_the_context_can_be_lowered_and_not_raised(tiny_bundle: Path, asked: int, given: int) -> None:
    model = load(tiny_bundle, slots=1, context=asked)
    assert model.limits.context_tokens == given
    assert model.cache.shape.context_tokens == given


def test_little_memory_lowers_what_requests_may_hold_together(
    tiny_bundle: Path, available: Callable[..., None]
) -> None:
    bytes_per_token = read_manifest(tiny_bundle).kv_cache.bytes_per_token
    available(_RESERVE_BYTES + 200 * bytes_per_token)
    limits = load(tiny_bundle, slots=4).limits
    assert (limits.kv_budget_tokens, limits.context_tokens) == (200, 256)


def test_too_little_memory_is_a_refusal_with_the_numbers(tiny_bundle: Path, available: Callable[..., None]) -> None:
    bytes_per_token = read_manifest(tiny_bundle).kv_cache.bytes_per_token
    available(_RESERVE_BYTES + 127 * bytes_per_token)
    with pytest.raises(BundleError) as refusal:
        load(tiny_bundle)
    message = str(refusal.value)
    assert "at least 128 tokens" in message
    assert f"of {bytes_per_token} bytes" in message
    assert "got 256 MiB" in message
    assert "the largest context that fits is 127 tokens" in message
    assert "Free memory, or export it smaller." in message


def test_a_bundle_that_cannot_fit_is_refused_before_it_is_read(broken: Path, available: Callable[..., None]) -> None:
    (broken / "model.onnx.data").write_bytes(b"")
    available(1 << 40, before_bytes=_RESERVE_BYTES + _MIB)
    with pytest.raises(BundleError, match="to load the weights"):
        load(broken)


def test_steps_are_measured_once(served: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second = load(served, slots=2), load(served, slots=2)
    assert first.calibration_ms > 0
    assert second.calibration_ms == 0
    assert second.costs.decode_ms(2, 10) == first.costs.decode_ms(2, 10)
    assert [path.parent for path in calibrations(served)] == [served.with_name("served.state")]
    assert load(served, slots=3).calibration_ms > 0
    assert caplog.records == []


@pytest.mark.parametrize(
    "damage",
    [lambda content: content[:-9], lambda content: content.replace(b"decode", b"decide"), lambda _: b""],
    ids=["cut", "edited", "empty"],
)
def test_a_calibration_that_was_damaged_is_measured_again_with_a_warning(
    served: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[bytes], bytes]
) -> None:
    load(served)
    (path,) = calibrations(served)
    path.write_bytes(damage(path.read_bytes()))
    assert load(served).calibration_ms > 0
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"{path}: ignored" in record.getMessage()
    assert load(served).calibration_ms == 0


def test_state_can_be_kept_elsewhere(served: Path, tmp_path: Path) -> None:
    load(served, state_dir=str(tmp_path / "state"), prefixes=PREFIXES)
    assert {path.name for path in tmp_path.iterdir()} == {"served", "state"}
    assert len(list((tmp_path / "state" / "prefixes").iterdir())) == 2


def test_prefixes_are_computed_once_and_come_from_disk_then(served: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    first, second = load(served, slots=2, prefixes=PREFIXES), load(served, slots=2, prefixes=PREFIXES)
    told = [record.getMessage() for record in caplog.records if record.name.startswith("bise_daemon.prefixes")]
    assert [message.split()[-1] for message in told] == ["computed", "computed", "disk", "disk"]
    # They lie behind the slots of requests (2) and of what these leave (4).
    assert [(prefix.name, prefix.slot) for prefix in second.prefixes] == [("short", 10), ("long", 11)]
    for prefix in second.prefixes:
        held = [b"".join(model.cache.pieces(prefix.slot, len(prefix.tokens))) for model in (first, second)]
        assert held[0] == held[1]
        assert any(held[0])
    assert second.limits.spare_slots == 8 + 2
    kept = second.limits.context_tokens + sum(len(prefix.tokens) for prefix in second.prefixes)
    assert second.limits.idle_tokens == kept


def test_a_prefix_without_room_is_left_out(served: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = load(served, context=16, prefixes=PREFIXES)
    assert [prefix.name for prefix in model.prefixes] == ["short"]
    assert "prefix long: left out: expected at most 16 tokens, got 22" in caplog.text


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
