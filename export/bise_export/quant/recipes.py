"""Recipes: which tensor is stored in which format, for each precision a person can ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from bise_export.errors import UnsupportedError
from bise_export.quant.formats import Blocks, Floats, Format

Precision = Literal["int4", "int8", "fp16", "fp32"]
ActivationPrecision = Literal["int8", "int16"]
VocabularyPrecision = Literal["int4", "int8"]
PromptAttention = Literal["fused", "float"]
Target = Literal["cpu", "cuda"]

_VOCABULARY_BLOCK = 64
_ACTIVATIONS: dict[Target, np.dtype[np.floating]] = {"cpu": np.dtype(np.float32), "cuda": np.dtype(np.float16)}


@dataclass(frozen=True, slots=True)
class Recipe:
    """The formats of a bundle's matrices, and the element type its graph computes in.

    Attributes:
        layers: the format of the projections.
        embedding: the format of the token embedding and of the head, tied or not.
        activations: what flows between the operators: float32 on cpu, float16 on cuda.
        two_pass: products take activations to 16 bits, in two passes of the kernel's 8: see `graph.activations`.
        prompt_attention: float is a way of its own, over an int8 cache on cpu: see `graph.prompt_attention`.
    """

    precision: Precision
    block_size: int
    target: Target
    layers: Format
    embedding: Format
    activations: np.dtype[np.floating]
    two_pass: bool
    prompt_attention: PromptAttention = "fused"


def recipe(
    precision: Precision,
    block_size: int,
    target: Target,
    activation_precision: ActivationPrecision | None = None,
    vocabulary: VocabularyPrecision | None = None,
) -> Recipe:
    """The recipe of a precision on a target.

    Args:
        vocabulary: of the embedding and the head of int4 weights; None is int8.
        activation_precision: what products see of activations; None is int16 for int8 weights, int8 for int4.

    Raises:
        UnsupportedError: the target or the precision leaves no such choice.
    """
    if activation_precision is not None and (target != "cpu" or not precision.startswith("int")):
        raise UnsupportedError(
            f"--activations {activation_precision}: expected int4 or int8 weights on cpu, got {precision} on {target}, "
            "where products are of floats. Leave it out."
        )
    if vocabulary is not None and precision != "int4":
        raise UnsupportedError(
            f"--vocabulary {vocabulary}: expected int4 weights, got {precision}, whose vocabulary is stored alike. "
            "Leave it out."
        )
    activations = _ACTIVATIONS[target]
    layers: Format
    embedding: Format
    if precision in ("fp16", "fp32"):
        layers = embedding = Floats(np.dtype(np.float16 if precision == "fp16" else np.float32))
    else:
        layers = Blocks(int(precision.removeprefix("int")), block_size, activations)
        # The vocabulary's matrix suffers most from 4 bits: on SmolLM2 they raise the mean KL from 0.31 to 0.44. In 8
        # bits it does not feel larger blocks, which spare a head that is read for every token a tenth of its bytes. At
        # 128 the kernel sums one row in another order than several: a batch would show in an answer's last bits.
        wide = Blocks(8, _VOCABULARY_BLOCK, activations)
        embedding = layers if precision == "int8" or vocabulary == "int4" else wide
    # Eight-bit weights are for those who want almost no loss, and int8 activations would lose more than they do: on
    # SmolLM2, mean KL 0.0046 and 94.0 % the same next token against 0.0010 and 98.0 % with two passes, at 1.5 times the
    # decode and 2.2 times the prefill time.
    if activation_precision is None:
        activation_precision = "int16" if precision == "int8" and target == "cpu" else "int8"
    two_pass = activation_precision == "int16"
    return Recipe(precision, block_size, target, layers, embedding, activations, two_pass)
