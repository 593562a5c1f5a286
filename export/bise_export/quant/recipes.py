"""Recipes: which tensor is stored in which format, for each precision a person can ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from bise_export.errors import UnsupportedError
from bise_export.quant.formats import Blocks, Floats, Format

Precision = Literal["mixed", "int4", "int8", "fp16", "fp32"]
ActivationPrecision = Literal["int8", "int16"]
VocabularyPrecision = Literal["int4", "int8", "graded"]
PromptAttention = Literal["fused", "float"]
Rounding = Literal["nearest", "compensated"]
Target = Literal["cpu", "cuda"]

_VOCABULARY_BLOCK = 64
_ACTIVATIONS: dict[Target, np.dtype[np.floating]] = {"cpu": np.dtype(np.float32), "cuda": np.dtype(np.float16)}
# Of blocks. The CPU kernels want float32 and pack scales anew at load; half of the bytes are enough on the way there:
# a scale is off by at most 1/2048, and those of GGUF's Q4_0 and Q8_0 are halves already.
_SCALES = np.dtype(np.float16)
_FEW_BITS: tuple[Precision, ...] = ("mixed", "int4")
_FLOATS: Mapping[Precision, np.dtype[np.floating]] = {"fp16": np.dtype(np.float16), "fp32": np.dtype(np.float32)}
# (bits, block size) in which MatMulNBits, by its CPU kernels, gives a row the same last bits alone and in a batch.
# Measured on onnxruntime 1.31.1 with 1 to 8 rows; of 2 bits, blocks of 16 and 256 have no fast kernel.
EXACT_BLOCKS = ((2, 128), (2, 64), (2, 32), (4, 32), (4, 16), (8, 64), (8, 32))
_LARGER_BLOCKS = ((4, 128), (4, 64))

PROBED = Blocks(2, 32, _SCALES)
"""The rounding by which a plan measures how sensitive each matrix is: coarse enough to stand out, and additive."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """The formats of a bundle's matrices, and the element type its graph computes in.

    Attributes:
        layers: the format of the projections.
        embedding: the format of the token embedding and of the head, tied or not.
        rare: the format of their rows for rare tokens; see `contents`.
        activations: what flows between the operators: float32 on cpu, float16 on cuda.
        two_pass: products take activations to 16 bits, in two passes of the kernel's 8: see `graph.activations`.
        prompt_attention: float is a way of its own, over an int8 cache on cpu: see `graph.prompt_attention`.
        rounding: of projections in few bits; compensated makes columns make up for each other: see `rounding`.
        planned: formats by matrix name, where they are chosen one by one.
    """

    precision: Precision
    block_size: int
    target: Target
    layers: Format
    embedding: Format
    rare: Format
    activations: np.dtype[np.floating]
    two_pass: bool
    prompt_attention: PromptAttention = "fused"
    rounding: Rounding = "nearest"
    planned: Mapping[str, Format] = field(default_factory=dict)

    @property
    def weighted(self) -> bool:
        """Whether quantizers look at what columns are multiplied with: from 4 bits down, where it halves the loss."""
        return self.precision in _FEW_BITS

    @property
    def quantized(self) -> bool:
        """Whether matrices are stored as integers."""
        return self.precision not in _FLOATS


def recipe(
    precision: Precision,
    block_size: int,
    target: Target,
    activation_precision: ActivationPrecision | None = None,
    vocabulary: VocabularyPrecision | None = None,
    *,
    symmetric: bool = False,
    rounding: Rounding = "nearest",
) -> Recipe:
    """The recipe of a precision on a target.

    Args:
        precision: of "mixed", what a plan starts from: the formats of int4, and `planned` still empty.
        vocabulary: of the embedding and the head of int4 weights; None is graded: 8 bits for frequent tokens, as the
            layers for rare ones.
        symmetric: int4's blocks have no zero points.
        activation_precision: what products see of activations; None is int16 for int8 weights, int8 for others.
        rounding: compensated is for int4 and mixed weights.

    Raises:
        UnsupportedError: the target or the precision leaves no such choice.
    """
    floats = _FLOATS.get(precision)
    if activation_precision is not None and (target != "cpu" or floats is not None):
        raise UnsupportedError(
            f"--activations {activation_precision}: expected int4 or int8 weights on cpu, got {precision} on {target}, "
            "where products are of floats. Leave it out."
        )
    if vocabulary is not None and precision != "int4":
        raise UnsupportedError(
            f"--vocabulary {vocabulary}: expected int4 weights, got {precision}, whose vocabulary is stored alike or "
            "planned. Leave it out."
        )
    if symmetric and precision != "int4":
        raise UnsupportedError(f"--symmetric: expected int4 weights, got {precision}. Leave it out.")
    if rounding == "compensated" and precision not in _FEW_BITS:
        raise UnsupportedError(
            f"--rounding compensated: expected int4 weights, --bits or --fit, got {precision}, which gains "
            "nothing from it. Leave it out."
        )
    layers: Format
    embedding: Format
    if floats is not None:
        layers = embedding = Floats(floats)
    else:
        layers = Blocks(8 if precision == "int8" else 4, block_size, _SCALES, symmetric)
        # The vocabulary's matrix suffers most from 4 bits, nearly all of it in rows of frequent tokens: see `contents`.
        # In 8 bits these do not feel larger blocks. At 128 the kernel sums one row in another order than several: a
        # batch would show in an answer's last bits.
        wide = Blocks(8, _VOCABULARY_BLOCK, _SCALES)
        embedding = layers if precision == "int8" or vocabulary == "int4" else wide
    rare = layers if precision == "int4" and vocabulary in (None, "graded") else embedding
    # Eight-bit weights are for those who want almost no loss, and int8 activations would lose more than they do: on
    # SmolLM2, mean KL 0.0046 and 94.0 % the same next token against 0.0010 and 98.0 % with two passes, at 1.5 times the
    # decode and 2.2 times the prefill time.
    if activation_precision is None:
        activation_precision = "int16" if precision == "int8" and target == "cpu" else "int8"
    two_pass = activation_precision == "int16"
    return Recipe(
        precision, block_size, target, layers, embedding, rare, _ACTIVATIONS[target], two_pass, rounding=rounding
    )


def format_named(name: str) -> Format:
    """The format of blocks that calls itself so.

    Raises:
        ValueError: none does.
    """
    for bits, size in (*EXACT_BLOCKS, *_LARGER_BLOCKS):
        if (found := Blocks(bits, size, _SCALES)).name == name:
            return found
    raise ValueError(f"{name!r}: expected the name of a format of blocks")


def candidates(block_size: int, kind: str, columns: int) -> list[Blocks]:
    """What a plan may choose among for a matrix.

    Args:
        block_size: the largest block that 4 bits may have even though a row's last bits then depend on its neighbours.
        kind: the matrix's tensor class; of an embedding, which is looked up too, blocks must fill a row.
    """
    blocks = [*EXACT_BLOCKS, *(each for each in _LARGER_BLOCKS if each[1] <= block_size)]
    if kind == "embedding":
        blocks = [each for each in blocks if columns % each[1] == 0]
    return [Blocks(bits, size, _SCALES) for bits, size in blocks]
