"""What is read of another exporter's graph, and everything about it that is refused by name."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from bise_export.errors import SourceError, UnsupportedError
from bise_export.foreign.decoder import Growth, read_decoder


def value_named(model, name):
    return next(value for value in (*model.graph.inputs, *model.graph.outputs) if value.name == name)


def renamed(old, new):
    def change(model):
        value_named(model, old).name = new

    return change


def typed(prefix, dtype):
    def change(model):
        for value in (*model.graph.inputs, *model.graph.outputs):
            if value.name.startswith(prefix):
                value.dtype = dtype

    return change


def shaped(name, shape):
    def change(model):
        value_named(model, name).shape = ir.Shape(shape)

    return change


def with_node(domain, op_type, attributes=None):
    def change(model):
        model.opset_imports.setdefault(domain, 1)
        model.graph.append(ir.node(op_type, [value_named(model, "logits")], attributes, domain=domain))

    return change


def with_data(location, offset=0, length=4):
    def change(model):
        tensor = ir.ExternalTensor(location, offset, length, ir.DataType.FLOAT, shape=ir.Shape([1]), name="stolen")
        model.graph.register_initializer(ir.val("stolen", const_value=tensor))

    return change


def old(model):
    model.graph.opset_imports[""] = 14


BRANCH = ir.Graph([], [], nodes=[], name="then")
REFUSED = {
    "an input of images": (renamed("position_ids", "pixel_values"), "got also pixel_values"),
    "a merged decoder's switch": (renamed("position_ids", "use_cache_branch"), "got also use_cache_branch"),
    "no mask": (renamed("attention_mask", "position_ids_2"), "got no attention_mask"),
    "no past": (renamed("past_key_values.0.key", "past.0.key"), "got no past_key_values.0.key"),
    "half of a past": (renamed("past_key_values.1.value", "past.1.value"), "got no past_key_values.1.value"),
    "no present": (renamed("present.1.value", "next.1.value"), "got no present.1.value"),
    "packed caches": (typed("past_key_values", ir.DataType.UINT8), "of float32, float16 or int8, got UINT8"),
    "integer logits": (typed("logits", ir.DataType.INT64), "logits of floats"),
    "a mask of floats": (typed("attention_mask", ir.DataType.FLOAT), "attention_mask of int64 or int32, got FLOAT"),
    "endless heads": (shaped("past_key_values.0.key", ["batch", 1 << 40, "past", 16]), "with 1 to 1024 heads"),
    "a pruned head": (shaped("logits", ["batch", 1, 320]), "pruned head"),
    "layers that differ": (shaped("past_key_values.1.key", ["batch", 4, "past", 16]), "in all layers, got several"),
    "flat caches": (shaped("past_key_values.0.key", ["batch", "past", 16]), r"\[batch, heads, tokens, channels\]"),
    "a custom operator": (with_node("evil", "Run"), "got evil::Run"),
    "a branch": (with_node("", "If", {"then_branch": BRANCH}), "one road through the graph, got If"),
    "an old opset": (old, "expected opset 15 or newer, got 14"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_the_daemon_could_not_serve_is_refused_by_name(foreign, what):
    change, message = REFUSED[what]
    file = foreign("optimum", change)
    with pytest.raises(UnsupportedError, match=message) as refusal:
        read_decoder(file)
    assert str(refusal.value).startswith(str(file))
    assert "Export" in str(refusal.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_data("/etc/hostname"), "expected external data in its own folder, got '/etc/hostname'"),
        (with_data("../optimum-beside/weights"), "expected external data in its own folder"),
        (with_data("config.json", offset=1 << 40), "expected 1099511627780 bytes or more in 'config.json'"),
        (with_data("missing"), "got no file"),
    ],
    ids=["absolute", "outside", "too short", "missing"],
)
def test_external_data_is_in_the_graphs_folder_and_long_enough(foreign, change, message):
    with pytest.raises(SourceError, match=message):
        read_decoder(foreign("optimum", change))


def test_a_link_out_of_the_folder_is_not_followed(foreign, tmp_path):
    file = foreign("genai")
    data = file.with_name("model.onnx.data")
    data.rename(tmp_path / "elsewhere")
    data.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SourceError, match="copy what it leads to"):
        read_decoder(file)


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(SourceError, match=r"expected an \.onnx file, found none"):
        read_decoder(tmp_path / "model.onnx")
    (tmp_path / "model.onnx").write_bytes(b"\xff" * 100)
    with pytest.raises(SourceError, match="expected an ONNX model"):
        read_decoder(tmp_path / "model.onnx")


def test_what_is_read_of_both_exporters(foreign):
    builder, optimum = read_decoder(foreign("genai")), read_decoder(foreign("optimum"))

    assert (builder.growth, optimum.growth) == (Growth.IN_PLACE, Growth.APPENDED)
    assert (builder.positions, optimum.positions) == (256, None)
    assert (builder.head_dim, optimum.head_dim) == (None, 16)
    assert [file.name for file in builder.files] == ["model.onnx", "model.onnx.data"]
    for decoder in (builder, optimum):
        assert (decoder.num_layers, decoder.num_kv_heads, decoder.vocab_size) == (2, 1, 320)
        assert decoder.cache_type.numpy() == np.float32
