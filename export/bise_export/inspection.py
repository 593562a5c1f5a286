"""A bundle's manifest, laid out for a person."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bise_proto.v1 import bundle_pb2

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
_HASH_SHOWN = 12
_TOKENIZERS = {
    bundle_pb2.Tokenizer.TOKENIZERS: "tokenizers",
    bundle_pb2.Tokenizer.TEKKEN: "tekken (mistral-common)",
    bundle_pb2.Tokenizer.SENTENCEPIECE: "sentencepiece (mistral-common)",
}
_CHATS = {
    bundle_pb2.NONE: "none: a base model",
    bundle_pb2.JINJA: "the checkpoint's own template",
    bundle_pb2.MISTRAL: "Mistral's instruct format",
}


def render(bundle: bundle_pb2.Bundle, folder: Path) -> RenderableType:
    """The whole page: what the model is, what it costs, what was lost, where it came from.

    Args:
        bundle: the manifest.
        folder: where it lies, to be shown.
    """
    return Group(
        Text.assemble((bundle.name, "bold"), f" {bundle.version}"),
        Text(str(folder), style="dim"),
        _section("Model", _facts(_model(bundle))),
        _section("Weights", _weights(bundle.quantization)),
        _section("KV cache", _facts(_cache(bundle))),
        _section("Text", _facts(_text(bundle))),
        _section("Accuracy", _facts(_accuracy(bundle))),
        _section("Made from", _facts(_provenance(bundle.provenance))),
        _section("Files", _files(bundle.files)),
    )


def size(count: float) -> str:
    """A size in bytes as a person says it: `98.3 MiB`."""
    unit = 0
    while count >= 1024 and unit < len(_UNITS) - 1:
        count, unit = count / 1024, unit + 1
    return f"{count:,.1f} {_UNITS[unit]}" if unit else f"{count:,.0f} {_UNITS[0]}"


def _model(bundle: bundle_pb2.Bundle) -> Iterable[tuple[str, str]]:
    a = bundle.architecture
    shared = "shared with the embedding" if a.tied_embeddings else "its own"
    window = f", sliding window of {a.sliding_window:,}" if a.sliding_window else ""
    yield "family", a.family
    yield "parameters", _millions(a.parameters)
    yield "size", size(sum(file.size_bytes for file in bundle.files))
    yield "shape", f"{a.num_layers} layers, hidden {a.hidden_size:,}, feed-forward {a.intermediate_size:,}"
    yield "attention", f"{a.num_heads} heads on {a.num_kv_heads} key-value heads of {a.head_dim}{window}"
    yield "vocabulary", f"{a.vocab_size:,} tokens, output matrix {shared}"
    yield "runs on", bundle.graph.target


def _weights(quantization: bundle_pb2.Quantization) -> RenderableType:
    blocks = f", blocks of {quantization.block_size}" if quantization.precision.startswith("int") else ""
    summary = f"{quantization.precision}{blocks}; {quantization.bits_per_weight:.2f} bits per weight"
    table = _table("tensors", "format", "parameters>", "size>", "bits>")
    for each in quantization.classes:
        bits = f"{8 * each.bytes / each.parameters:.2f}" if each.parameters else "n/a"
        table.add_row(Text(each.name), Text(each.format), _millions(each.parameters), size(each.bytes), bits)
    return Group(Text(summary), table)


def _cache(bundle: bundle_pb2.Bundle) -> Iterable[tuple[str, str]]:
    per_token, context = bundle.kv_cache.bytes_per_token, bundle.graph.context
    trained = bundle.architecture.trained_context
    yield "stored as", bundle.kv_cache.dtype
    yield "per token", size(per_token)
    for tokens in sorted({min(1024, context), min(8192, context), context}):
        yield f"{tokens:,} tokens", size(per_token * tokens)
    yield "context", f"{context:,} tokens" + (f", of {trained:,} trained for" if trained != context else "")


def _text(bundle: bundle_pb2.Bundle) -> Iterable[tuple[str, str]]:
    tokenizer = bundle.tokenizer
    yield "tokenizer", _TOKENIZERS.get(tokenizer.kind, "unknown")
    yield "starts with", f"token {tokenizer.bos_token_id}" if tokenizer.add_bos else "nothing added"
    yield "ends with", _listed("token", tokenizer.eos_token_ids)
    yield "chat", _CHATS.get(bundle.chat_format, "unknown")


def _accuracy(bundle: bundle_pb2.Bundle) -> Iterable[tuple[str, str]]:
    if not bundle.HasField("accuracy"):
        yield "not measured", "`bise verify BUNDLE --against CHECKPOINT` measures it"
        return
    accuracy = bundle.accuracy
    yield "against", f"{accuracy.reference}, {accuracy.positions:,} positions of {accuracy.prompts} prompts"
    yield "same next token", f"{accuracy.top1_agreement:.1%}"
    yield "KL divergence", f"mean {accuracy.mean_kl:.2g}, 99th percentile {accuracy.p99_kl:.2g} nats"
    yield "largest difference", f"{accuracy.max_logit_difference:.2g} of a logit"


def _provenance(provenance: bundle_pb2.Provenance) -> Iterable[tuple[str, str]]:
    yield "source", provenance.source_kind
    for file in provenance.source_files:
        yield "", f"{file.path}  {size(file.size_bytes)}  {file.sha256[:_HASH_SHOWN]}"
    yield (
        "tools",
        ", ".join(f"{name} {version}" for name, version in sorted(provenance.tools.items())) or "not recorded",
    )


def _files(files: Sequence[bundle_pb2.File]) -> Table:
    table = _table("file", "size>", "sha256")
    for file in files:
        table.add_row(Text(file.path), size(file.size_bytes), Text(file.sha256[:_HASH_SHOWN]))
    return table


def _section(title: str, body: RenderableType) -> RenderableType:
    return Group(Text(), Text(title, style="bold cyan"), Padding(body, (0, 0, 0, 2)))


def _facts(rows: Iterable[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for name, value in rows:
        table.add_row(Text(name), Text(value))
    return table


def _table(*columns: str) -> Table:
    """An open table; a name that ends in `>` heads a column of numbers, set to the right."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in columns:
        table.add_column(name.rstrip(">"), justify="right" if name.endswith(">") else "left")
    return table


def _listed(noun: str, ids: Sequence[int]) -> str:
    if not ids:
        return f"no {noun}"
    return f"{noun}{'s' if len(ids) > 1 else ''} {', '.join(map(str, ids))}"


def _millions(count: int) -> str:
    """134,515,008 → `134.5 M`."""
    scale, unit = (1e9, "B") if count >= 1e9 else (1e6, "M") if count >= 1e6 else (1e3, "k")
    return f"{count / scale:,.1f} {unit}"
