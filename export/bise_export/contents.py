"""What a bundle holds of a checkpoint: its matrices, packed as the graph wants them, and its vectors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

from bise_export.quant.formats import Format
from bise_export.quant.recipes import Recipe
from bise_export.sources.views import Rows
from bise_export.sources.weight import Weight
from bise_export.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class Matrix:
    """A matrix [rows, columns] of the bundle: of the checkpoint's `parts`, one below the other, all rows or some.

    Attributes:
        name: its name in the graph, without the suffix that its format adds.
        parts: canonical checkpoint weights.
        kind: the tensor class it counts for: "embedding", "attention", "mlp" or "head".
        bias: what is added to each product with it, if anything.
        first_row: of a piece of the vocabulary, which has one part.
    """

    name: str
    parts: tuple[str, ...]
    rows: int
    columns: int
    format: Format
    kind: str
    bias: Vector | None = None
    first_row: int = 0

    def stored(self, weights: Mapping[str, Weight]) -> list[Weight]:
        """What the checkpoint has of it, one below the other."""
        parts = [weights[part] for part in self.parts]
        if sum(part.shape[0] for part in parts) == self.rows:
            return parts
        return [Rows(part, self.first_row, (self.rows, self.columns)) for part in parts]


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
# Where a vocabulary is cut; where a plan may choose, more finely. Ids of byte pair encodings go by how often their
# tokens come, and rows of rare ones lose little in fewer bits. SmolLM2's in 4 bits alone, mean KL: all rows 0.095 nats;
# but for the first twelfth 0.030, sixth 0.024, third 0.016.
_CUTS, _PLANNED_CUTS = (1 / 8,), (1 / 16, 1 / 8, 1 / 4, 1 / 2)
_CUT_ROWS = 128
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

    found = list(_vocabulary(spec, recipe, EMBEDDING, "embedding"))
    for layer in range(spec.num_layers):
        prefix = f"model.layers.{layer}."
        for name, parts, kind in _PACKED:
            found.append(packed(prefix + name, tuple(prefix + part for part in parts), recipe.layers, kind))
    if not spec.tied_embeddings:
        found += _vocabulary(spec, recipe, HEAD, "head")
    return found


def pieces_of(found: Iterable[Matrix], name: str) -> list[Matrix]:
    """The embedding's or the head's pieces among a bundle's matrices; one where it is whole."""
    return [each for each in found if each.parts == (f"{name}.weight",)]


def piece_name(name: str, first_row: int) -> str:
    """What the piece from a row on is called."""
    return f"{name}.rows_{first_row}" if first_row else name


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


def _vocabulary(spec: ModelSpec, recipe: Recipe, name: str, kind: str) -> Iterator[Matrix]:
    """A matrix with a row for each token: whole, or in as many pieces as a plan has formats for."""
    rows, columns = spec.vocab_size, spec.hidden_size
    cuts = _PLANNED_CUTS if recipe.precision == "mixed" else _CUTS
    starts = sorted({0, *(int(rows * cut) // _CUT_ROWS * _CUT_ROWS for cut in cuts)})
    pieces = []
    for start, end in pairwise([*starts, rows]):
        piece = piece_name(name, start)
        form = recipe.planned.get(piece, recipe.rare if start else recipe.embedding).dividing(columns)
        pieces.append(Matrix(piece, (f"{name}.weight",), end - start, columns, form, kind, first_row=start))
    if recipe.precision == "mixed" and not recipe.planned:
        yield from pieces  # a plan looks at each
        return
    for _, alike in groupby(pieces, key=lambda each: each.format):
        first, *others = alike
        yield replace(first, rows=first.rows + sum(each.rows for each in others))


def _bias(name: str, parts: tuple[str, ...], shapes: Mapping[str, tuple[int, ...]]) -> Vector | None:
    """The bias of the matrix `name`, if its parts have one."""
    biases = tuple(f"{part}.bias" for part in parts)
    present = [bias for bias in biases if bias in shapes]
    assert len(present) in (0, len(biases)), f"{name}: only {present} of {biases}"
    return Vector(f"{name}.bias", biases, sum(shapes[bias][0] for bias in biases), "bias") if present else None
