"""What a bundle holds of a checkpoint: its matrices, packed as the graph wants them, and its vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bise_export.quant.formats import Format
from bise_export.quant.recipes import Recipe
from bise_export.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class Matrix:
    """A matrix [rows, columns] of the bundle: the checkpoint's `parts`, one below the other.

    Attributes:
        name: its name in the graph, without the suffix that its format adds.
        parts: canonical checkpoint weights.
        kind: the tensor class it counts for: "embedding", "attention", "mlp" or "head".
        bias: what is added to each product with it, if anything.
    """

    name: str
    parts: tuple[str, ...]
    rows: int
    columns: int
    format: Format
    kind: str
    bias: Vector | None = None


@dataclass(frozen=True, slots=True)
class Vector:
    """A norm's gain or a projection's bias [size] of the bundle: the checkpoint's `parts`, one after the other.

    Attributes:
        parts: canonical checkpoint weights.
        kind: the tensor class it counts for: "norm" or "bias".
    """

    name: str
    parts: tuple[str, ...]
    size: int
    kind: str


EMBEDDING = "model.embed_tokens"
HEAD = "lm_head"
FINAL_NORM = "model.norm.weight"
_PACKED = (
    ("self_attn.qkv_proj", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), "attention"),
    ("self_attn.o_proj", ("self_attn.o_proj",), "attention"),
    ("mlp.gate_up_proj", ("mlp.gate_proj", "mlp.up_proj"), "mlp"),
    ("mlp.down_proj", ("mlp.down_proj",), "mlp"),
)


def matrices(spec: ModelSpec, recipe: Recipe) -> list[Matrix]:
    """Every matrix of the bundle, in the order in which the weight file holds them."""
    shapes = spec.weight_shapes()

    def packed(name: str, parts: tuple[str, ...], form: Format, kind: str) -> Matrix:
        weights = tuple(f"{part}.weight" for part in parts)
        rows, columns = sum(shapes[weight][0] for weight in weights), shapes[weights[0]][1]
        return Matrix(name, weights, rows, columns, recipe.planned.get(name, form), kind, _bias(name, parts, shapes))

    vocabulary = recipe.embedding.dividing(spec.hidden_size)
    found = [packed(EMBEDDING, (EMBEDDING,), vocabulary, "embedding")]
    for layer in range(spec.num_layers):
        prefix = f"model.layers.{layer}."
        for name, parts, kind in _PACKED:
            found.append(packed(prefix + name, tuple(prefix + part for part in parts), recipe.layers, kind))
    if not spec.tied_embeddings:
        found.append(packed(HEAD, (HEAD,), vocabulary, "head"))
    return found


def vectors(spec: ModelSpec) -> list[Vector]:
    """Every norm of the model, then every bias."""
    shapes = spec.weight_shapes()
    norms = [
        Vector(name, (name,), shape[0], "norm")
        for name, shape in shapes.items()
        if len(shape) == 1 and name.endswith(".weight")
    ]
    biases = [
        _bias(prefix + name, tuple(prefix + part for part in parts), shapes)
        for layer in range(spec.num_layers)
        for prefix in [f"model.layers.{layer}."]
        for name, parts, _ in _PACKED
    ]
    return [*norms, *(bias for bias in biases if bias is not None)]


def _bias(name: str, parts: tuple[str, ...], shapes: Mapping[str, tuple[int, ...]]) -> Vector | None:
    """The bias of the matrix `name`, if its parts have one."""
    biases = tuple(f"{part}.bias" for part in parts)
    present = [bias for bias in biases if bias in shapes]
    assert len(present) in (0, len(biases)), f"{name}: only {present} of {biases}"
    return Vector(f"{name}.bias", biases, sum(shapes[bias][0] for bias in biases), "bias") if present else None
