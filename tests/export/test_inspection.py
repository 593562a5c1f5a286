"""The page `bise inspect` shows."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from bise_export.inspection import render
from bise_export.page import size
from bise_proto.v1 import bundle_pb2

BUNDLE = bundle_pb2.Bundle(
    format_version=1,
    name="Smol",
    version="3",
    architecture=bundle_pb2.Architecture(
        family="llama",
        num_layers=30,
        hidden_size=576,
        intermediate_size=1536,
        num_heads=9,
        num_kv_heads=3,
        head_dim=64,
        vocab_size=49152,
        tied_embeddings=True,
        trained_context=8192,
        parameters=134_515_008,
    ),
    graph=bundle_pb2.Graph(target="cpu", context=2048),
    kv_cache=bundle_pb2.KvCache(dtype="int8", bytes_per_token=11520),
    quantization=bundle_pb2.Quantization(
        precision="int4",
        block_size=32,
        bits_per_weight=5.13,
        classes=[
            bundle_pb2.TensorClass(name="mlp", format="int4 block 32", parameters=80_000_000, bytes=50_000_000),
            bundle_pb2.TensorClass(name="norm", format="fp32", parameters=0, bytes=0),
        ],
    ),
    tokenizer=bundle_pb2.Tokenizer(kind=bundle_pb2.Tokenizer.TOKENIZERS, eos_token_ids=[0, 2]),
    chat_format=bundle_pb2.JINJA,
    accuracy=bundle_pb2.Accuracy(
        reference="numpy float32",
        prompts=8,
        positions=716,
        mean_kl=0.0123,
        p99_kl=0.11,
        top1_agreement=0.9712,
        max_logit_difference=2.5,
        perplexity_ratio=1.034,
    ),
    provenance=bundle_pb2.Provenance(
        source_kind="gguf",
        source_files=[bundle_pb2.File(path="a.gguf", size_bytes=98362432, sha256="ab" * 32)],
        tools={"bise": "0.1.0", "onnx": "1.23.2"},
    ),
    files=[
        bundle_pb2.File(path="model.onnx", size_bytes=300, sha256="cd" * 32),
        bundle_pb2.File(path="model.onnx.data", size_bytes=100 << 20, sha256="ef" * 32),
    ],
)


def page(bundle, width=100, signer=None):
    console = Console(file=io.StringIO(), width=width)
    console.print(render(bundle, Path("models/smol"), signer))
    return console.file.getvalue()


@pytest.mark.parametrize(
    "expected",
    [
        "Smol 3",
        "134.5 M",
        "100.0 MiB",
        "9 heads on 3 key-value heads of 64",
        "int4, blocks of 32; 5.13 bits per weight",
        "output matrix shared with the embedding",
        "11.2 KiB",
        "2,048 tokens, of 8,192 trained for",
        "tokens 0, 2",
        "the checkpoint's own template",
        "97.1%",
        "mean 0.0123, 99th percentile 0.11 nats",
        "716 positions of 8 prompts",
        "numpy float32",
        "1.034 times the checkpoint's",
        "a.gguf  93.8 MiB  abababababab",
        "bise 0.1.0, onnx 1.23.2",
        "efefefefefef",
    ],
)
def test_the_page_says(expected):
    assert expected in page(BUNDLE)


def test_the_table_of_tensors_gives_bits_per_weight_of_each_class():
    (row,) = (line.split() for line in page(BUNDLE).splitlines() if line.strip().startswith("mlp"))

    assert row == ["mlp", "int4", "block", "32", "80.0", "M", "47.7", "MiB", "5.00"]


def test_the_cache_of_a_full_context_is_priced():
    (row,) = (line for line in page(BUNDLE).splitlines() if line.strip().startswith("2,048 tokens"))

    assert row.split()[-2:] == ["22.5", "MiB"]


def test_an_accuracy_not_measured_says_how_to_measure_it():
    unmeasured = bundle_pb2.Bundle()
    unmeasured.CopyFrom(BUNDLE)
    unmeasured.ClearField("accuracy")

    assert "bise verify BUNDLE --against CHECKPOINT" in page(unmeasured)


def test_a_signature_is_shown_with_the_whole_key_and_how_to_prove_it():
    shown = page(BUNDLE, signer="0123456789abcdef" * 4)

    assert "the key of SHA-256 " + "0123456789abcdef" * 4 in shown
    assert "bise verify --trusted-key PUBLIC.pem" in shown
    assert "nobody: `bise sign` signs it" in page(BUNDLE)


def test_notes_and_layers_without_a_window_are_shown():
    noted = bundle_pb2.Bundle()
    noted.CopyFrom(BUNDLE)
    noted.provenance.notes.append("image input is left out: 7 parameters")
    noted.architecture.sliding_window = 4096
    assert "sliding window of 4,096" in page(noted)
    noted.architecture.full_attention_layers.extend(range(1, 30, 2))

    shown = page(noted)
    assert "image input is left out: 7 parameters" in shown
    assert "sliding window of 4,096 in 15 layers" in shown


def test_a_manifest_of_nothing_but_defaults_still_renders():
    assert "bits per weight" in page(bundle_pb2.Bundle())


def test_marks_of_the_terminal_in_a_name_stay_text():
    named = bundle_pb2.Bundle(name="[red]x[/red]", files=[bundle_pb2.File(path="[bold]f")])

    shown = page(named)
    assert "[red]x[/red]" in shown
    assert "[bold]f" in shown


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, "0 bytes"), (1023, "1,023 bytes"), (1024, "1.0 KiB"), (13_400_000_000, "12.5 GiB"), (1 << 50, "1,024.0 TiB")],
)
def test_sizes(count, expected):
    assert size(count) == expected
