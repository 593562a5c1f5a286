"""A bundle's manifest, laid out for a person."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bise_export.page import facts, section, size, table
from bise_proto.bundle import FOREIGN
from bise_proto.v1 import bundle_pb2

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


def render(bundle: bundle_pb2.Bundle, folder: Path, signer: str | None = None) -> RenderableType:
    """The whole page: what the model is, what it costs, what was lost, where it came from.

    Args:
        bundle: the manifest.
        folder: where it lies, to be shown.
        signer: the SHA-256 of the key that its signature names; None if it has no signature.
    """
    return Group(
        Text.assemble((bundle.name, "bold"), f" {bundle.version}"),
        Text(str(folder), style="dim"),
        section("Model", facts(_model(bundle))),
        section("Weights", _weights(bundle)),
        section("KV cache", facts(_cache(bundle))),
        section("Text", facts(_text(bundle))),
        section("Accuracy", facts(_accuracy(bundle))),
        section("Made from", facts(_provenance(bundle.provenance))),
        section("Signed", facts(_signature(signer))),
        section("Files", _files(bundle.files)),
    )


def _model(bundle: bundle_pb2.Bundle) -> Iterable[tuple[str, str]]:
    a = bundle.architecture
    shared = f", output matrix {'shared with the embedding' if a.tied_embeddings else 'its own'}"
    window = f", sliding window of {a.sliding_window:,}{_windowed_layers(a)}" if a.sliding_window else ""
    yield "family", a.family
    if bundle.provenance.source_kind != FOREIGN:
        yield "parameters", _millions(a.parameters)
    yield "size", size(sum(file.size_bytes for file in bundle.files))
    yield "shape", f"{a.num_layers} layers, hidden {a.hidden_size:,}, feed-forward {a.intermediate_size:,}"
    yield "attention", f"{a.num_heads} heads on {a.num_kv_heads} key-value heads of {a.head_dim}{window}"
    yield "vocabulary", f"{a.vocab_size:,} tokens{'' if bundle.provenance.source_kind == FOREIGN else shared}"
    yield "runs on", bundle.graph.target


def _windowed_layers(a: bundle_pb2.Architecture) -> str:
    return f" in {a.num_layers - len(a.full_attention_layers)} layers" if a.full_attention_layers else ""


def _weights(bundle: bundle_pb2.Bundle) -> RenderableType:
    if bundle.provenance.source_kind == FOREIGN:
        return Text("as another exporter stored them")
    quantization = bundle.quantization
    blocks = f", blocks of {quantization.block_size}" if quantization.precision.startswith("int") else ""
    summary = f"{quantization.precision}{blocks}; {quantization.bits_per_weight:.2f} bits per weight"
    rows = table("tensors", "format", "parameters>", "size>", "bits>")
    for each in quantization.classes:
        bits = f"{8 * each.bytes / each.parameters:.2f}" if each.parameters else "n/a"
        form = each.format + (", compensated" if each.rounding == "compensated" else "")
        rows.add_row(Text(each.name), Text(form), _millions(each.parameters), size(each.bytes), bits)
    if quantization.activations:
        summary += f"; activations in products as {quantization.activations}"
    return Group(Text(summary), rows)


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
    yield "against", f"{accuracy.reference} {accuracy.reference_version}".strip()
    yield "measured on", f"{accuracy.positions:,} positions of {accuracy.prompts} prompts"
    yield "same next token", f"{accuracy.top1_agreement:.1%}"
    yield "KL divergence", f"mean {accuracy.mean_kl:.3g}, 99th percentile {accuracy.p99_kl:.3g} nats"
    if accuracy.perplexity_ratio:
        yield "perplexity", f"{accuracy.perplexity_ratio:.4g} times the checkpoint's"
    yield "largest difference", f"{accuracy.max_logit_difference:.3g} of a logit"


def _provenance(provenance: bundle_pb2.Provenance) -> Iterable[tuple[str, str]]:
    yield "source", provenance.source_kind
    for file in provenance.source_files:
        yield "", f"{file.path}  {size(file.size_bytes)}  {file.sha256[:_HASH_SHOWN]}"
    for note in provenance.notes:
        yield "note", note
    yield (
        "tools",
        ", ".join(f"{name} {version}" for name, version in sorted(provenance.tools.items())) or "not recorded",
    )


def _signature(signer: str | None) -> Iterable[tuple[str, str]]:
    if signer is None:
        yield "by", "nobody: `bise sign` signs it"
        return
    yield "by", f"the key of SHA-256 {signer}"
    yield "", "so it says; `sha256sum PUBLIC.pem` tells whose, `bise verify --trusted-key PUBLIC.pem` proves it"


def _files(files: Sequence[bundle_pb2.File]) -> Table:
    rows = table("file", "size>", "sha256")
    for file in files:
        rows.add_row(Text(file.path), size(file.size_bytes), Text(file.sha256[:_HASH_SHOWN]))
    return rows


def _listed(noun: str, ids: Sequence[int]) -> str:
    if not ids:
        return f"no {noun}"
    return f"{noun}{'s' if len(ids) > 1 else ''} {', '.join(map(str, ids))}"


def _millions(count: int) -> str:
    """134,515,008 → `134.5 M`."""
    scale, unit = (1e9, "B") if count >= 1e9 else (1e6, "M") if count >= 1e6 else (1e3, "k")
    return f"{count / scale:,.1f} {unit}"
