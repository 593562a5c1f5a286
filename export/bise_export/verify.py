"""Whether a bundle is whole, computes what its bytes say, and how far that is from the checkpoint.

Parity and accuracy are two questions, so they are measured apart. *Parity* runs the graph with float activations
against the reference on the bundle's own decoded weights: what is left is rounding, and any mistake in the graph or in
the packing stands out by orders of magnitude. *Accuracy* runs the graph as it ships against the reference on the
checkpoint's weights: what quantization of weights, activations and cache costs, together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from bise_export.agreement import Agreement, compare
from bise_export.architecture import spec_of
from bise_export.calibration import int8_cache
from bise_export.decoded import Decoded, read_model
from bise_export.errors import SourceError, UnsupportedError
from bise_export.oracle import Numpy, Oracle, bounded, independent
from bise_export.prompts import VERIFICATION, token_prompts
from bise_export.reference import Reference, float32_cache
from bise_export.runner import Runner
from bise_export.sources.checkpoint import Checkpoint
from bise_export.spec import ModelSpec
from bise_proto.bundle import FOREIGN, check_files, read_manifest
from bise_proto.v1 import bundle_pb2

# Largest mean KL, in nats, that parity may show, by target and whether the cache is int8. SmolLM2 measured on the CPU:
# 2e-11 to 9e-11 with a float cache at any precision; 2e-4 to 3e-4 with an int8 one, where a key or value that differs
# in its last bit can round to the next integer. The tiny models' worst are 4e-13 and 1e-6. On CUDA the arithmetic is
# half precision. A permuted head or a wrong scale costs 0.1 and more.
_PARITY_LIMITS = {
    ("cpu", False): 1e-6,
    ("cpu", True): 2e-3,
    ("cuda", False): 5e-3,
    ("cuda", True): 5e-3,
}
_FLOAT_ACTIVATIONS = 1
Step = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What `verify` found.

    Attributes:
        files: how many were proved by size and hash.
        warnings: onnxruntime's, from loading the graph.
        parity: the graph against its own bytes; None for another exporter's, which only onnxruntime can compute.
        parity_limit: the mean KL that parity may show.
        accuracy: the graph against the checkpoint, if one was given, in the manifest's form.
    """

    files: int
    warnings: tuple[str, ...]
    parity: Agreement | None
    parity_limit: float
    accuracy: bundle_pb2.Accuracy | None

    @property
    def problems(self) -> list[str]:
        """What is wrong with the bundle, a sentence each; empty if nothing."""
        found = [f"onnxruntime warned while loading the graph: {line}" for line in self.warnings]
        if self.parity is not None and not self.parity.mean_kl <= self.parity_limit:
            found.append(
                f"the graph does not compute what its bytes say: expected a mean KL of at most {self.parity_limit:g}, "
                f"got {self.parity.mean_kl:.2g} nats and a largest logit difference of "
                f"{self.parity.max_logit_difference:.2g}. Export the model again; if it stays, report it with the "
                "checkpoint's name."
            )
        return found


def verify(
    folder: Path,
    against: Checkpoint | None = None,
    step: Step = lambda _name: None,
    oracle: Callable[[Checkpoint], Oracle] = independent,
) -> VerifyReport:
    """Checks a published bundle.

    Args:
        folder: the bundle.
        against: the checkpoint it was made from, to measure accuracy.
        step: told what is about to be done, for a person who waits.
        oracle: makes the reference that accuracy is measured against.

    Raises:
        BundleError: the bundle is not whole, or its graph does not load.
        ExportError: its tokenizer can't be read, a package is missing, or `against` is another model, or is given for
            a decoder that another exporter made.
    """
    bundle = read_manifest(folder)
    step("checking every file's hash")
    files = sum(1 for _ in check_files(folder, bundle))
    if bundle.provenance.source_kind == FOREIGN:
        if against is not None:
            raise UnsupportedError(
                f"{folder}: --against: expected a bundle that bise exported, got one of another exporter's decoder. "
                "Its accuracy against the graph it came from stands in the manifest: `bise inspect`."
            )
        return VerifyReport(files, (), None, 0.0, None)
    return measure(folder, bundle, against, step, files, oracle)


def measure(
    folder: Path,
    bundle: bundle_pb2.Bundle,
    against: Checkpoint | None = None,
    step: Step = lambda _name: None,
    files: int = 0,
    oracle: Callable[[Checkpoint], Oracle] = bounded,
) -> VerifyReport:
    """As `verify`, for a bundle whose manifest is not written yet: its files are taken as they are."""
    accuracy = None if against is None else measure_accuracy(folder, bundle, against, step, oracle)
    decoded = Decoded(folder, bundle)
    target, int8 = bundle.graph.target, bundle.kv_cache.dtype == "int8"
    step("running the graph against its own decoded weights")
    model = with_float_activations(read_model(folder / bundle.graph.model_file))
    cache = int8_cache(decoded.kv_scales()) if int8 else float32_cache
    parity, warnings = _run(folder, bundle, model, Numpy(Reference(decoded.spec, decoded.weights(), cache=cache)))
    return VerifyReport(files, warnings, parity, _PARITY_LIMITS[target, int8], accuracy)


def measure_accuracy(
    folder: Path,
    bundle: bundle_pb2.Bundle,
    against: Checkpoint,
    step: Step = lambda _name: None,
    oracle: Callable[[Checkpoint], Oracle] = bounded,
) -> bundle_pb2.Accuracy:
    """The graph as it ships against the checkpoint's weights; the bundle's manifest need not be written yet.

    Raises:
        BundleError: the graph does not load.
        ExportError: the bundle's tokenizer can't be read, a package is missing, or `against` is another model.
    """
    spec = spec_of(bundle)
    checkpoint_spec = against.spec.for_context(bundle.graph.context)
    if _architecture(checkpoint_spec) != _architecture(spec):
        raise SourceError(
            f"{against.name}: expected the checkpoint that {folder} was made from, got another model: "
            f"{checkpoint_spec} instead of {spec}. Verify against the right one, or with none."
        )
    chosen = oracle(replace(against, spec=checkpoint_spec))
    step(f"running the graph as it ships against the checkpoint's weights in {chosen.name}")
    model = read_model(folder / bundle.graph.model_file).SerializeToString()
    return accuracy_message(_run(folder, bundle, model, chosen)[0], chosen.name, chosen.version)


def accuracy_message(accuracy: Agreement, reference: str, version: str) -> bundle_pb2.Accuracy:
    """The manifest's form of an accuracy against a reference of this name and version."""
    return bundle_pb2.Accuracy(
        reference=reference,
        reference_version=version,
        prompts=accuracy.prompts,
        positions=accuracy.positions,
        mean_kl=accuracy.mean_kl,
        p99_kl=accuracy.p99_kl,
        top1_agreement=accuracy.top1_agreement,
        perplexity_ratio=accuracy.perplexity_ratio,
        max_logit_difference=accuracy.max_logit_difference,
    )


def greedy_agreement(
    runner: Runner, reference: Reference, prompts: Sequence[Sequence[int]], tokens: int = 64
) -> list[int]:
    """For each prompt, how many of the graph's first greedy tokens are the reference's too.

    The graph decodes step by step over its cache; the reference reads prompt and tokens in one pass. Where every one
    of the graph's tokens is the reference's most likely, the reference's own greedy run is the same.
    """
    chosen = [runner.greedy(prompt, tokens) for prompt in prompts]
    forced = [[*prompt, *found[:-1]] for prompt, found in zip(prompts, chosen, strict=True)]
    agreed = []
    for prompt, found, logits in zip(prompts, chosen, reference.each_logits(forced), strict=True):
        expected = logits[len(prompt) - 1 :].argmax(-1).tolist()
        agreed.append(
            next((at for at, pair in enumerate(zip(found, expected, strict=True)) if len(set(pair)) > 1), tokens)
        )
    return agreed


def with_float_activations(model: onnx.ModelProto) -> bytes:
    """The graph, serialized, with its quantized products computed in floats instead of int8 activations."""
    exact = onnx.ModelProto()
    exact.CopyFrom(model)
    for node in exact.graph.node:
        for attribute in node.attribute:
            if node.op_type == "MatMulNBits" and attribute.name == "accuracy_level":
                attribute.i = _FLOAT_ACTIVATIONS
    return exact.SerializeToString()


def _architecture(spec: ModelSpec) -> ModelSpec:
    """The spec without its special tokens, which a bundle takes from the tokenizer."""
    return replace(spec, bos_token_id=None, eos_token_ids=())


def _run(folder: Path, bundle: bundle_pb2.Bundle, model: bytes, oracle: Oracle) -> tuple[Agreement, tuple[str, ...]]:
    """Runs graph and oracle over the verification prompts: how they agree, and what onnxruntime warned of."""
    prompts = [ids[: bundle.graph.context] for ids in token_prompts(folder, bundle.tokenizer, VERIFICATION)]
    oracle.prepare(prompts)  # before the graph is loaded, so that only one of the two is in memory
    runner = Runner(folder, model, bundle.graph.target, max(map(len, prompts)))
    expected = oracle.each_logits()
    agreement = compare((prompt, one, runner.logits(prompt)) for one, prompt in zip(expected, prompts, strict=True))
    return agreement, runner.warnings
