"""What storing each matrix in each format costs: measured, in one pass over the weights.

Every matrix alone is rounded to the same few bits, and what that does to the next token is followed to the end: a state
for each, that leaves the exact one where its matrix stands and passes through all later layers like any other prompt.
Beside that, each format's own error is taken on a sample of rows; what a format costs is the measured loss times the
format's squared error, weighted by what the columns are multiplied with, over that of the rounding that was followed.

SmolLM2, KL in nats on texts apart from these: the losses of its 120 matrices at 2 bits, each alone, add up to 3.6, and
all of them together cost 2.9; at 4 bits the same sum, times the ratio of the errors, comes to 0.15, where 0.14 is
measured. What is found here adds up to 3.5, and ranks the matrices as those texts do: 0.90 by Spearman. Cheaper ways
rank worse: the change of its layer's output over that output, 0.82; a matrix's error, 0.65; its error weighted by its
inputs, 0.0, and the same over its outputs, -0.5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import prod

import numpy as np

from bise_export.agreement import compare
from bise_export.contents import EMBEDDING, HEAD, Matrix, pieces_of
from bise_export.quant.formats import Format
from bise_export.quant.planner import Choice
from bise_export.quant.recipes import PROBED
from bise_export.quant.rounded import Rounded
from bise_export.reference import CHUNK_BYTES, Reference
from bise_export.sources.weight import Float32, Weight
from bise_export.spec import ModelSpec

# Of every prompt. A token costs half a forward pass for each matrix: SmolLM2's 121 and 96 tokens take 57 s of one core.
# Mistral Small 3's 161 and 24 tokens are 93 TFLOP, for which two cores need 10 to 20 minutes.
_TOKENS = 12
_LARGE_PARAMETERS = 4_000_000_000
_LARGE_PROMPTS, _LARGE_TOKENS = 2, 12
# Tokens that pass through a layer at once.
_TOGETHER = 1024
# Rows a format is tried on: so many slabs, evenly spaced, of so many rows each.
_SLABS, _SLAB_ROWS = 8, 32


def importance_of(matrix: Matrix, mean_squares: Mapping[str, Float32], *, tied: bool) -> Float32 | None:
    """What an error in each of the matrix's columns costs; None for a table of embeddings that is nothing else."""
    if matrix.kind == "embedding":
        return mean_squares[HEAD] if tied else None
    return mean_squares.get(matrix.parts[0].removesuffix(".weight"))


def losses(
    spec: ModelSpec,
    weights: Mapping[str, Weight],
    matrices: Sequence[Matrix],
    importance: Mapping[str, Float32],
    prompts: Sequence[Sequence[int]],
    advance: Callable[[int], None],
) -> dict[str, float]:
    """The mean KL, in nats, that each matrix alone costs when it is stored as `PROBED`.

    Embeddings are followed together; each piece of them costs its share of the prompts' tokens, since few of the rare
    ones are among those that are followed.

    Args:
        importance: by matrix name, as its quantizer sees it.
        prompts: of which the first tokens are followed.
        advance: told the count of parameters each time some are done.
    """
    occurring = [token for prompt in prompts for token in prompt]
    prompts = _read(spec, prompts)
    lengths = [len(prompt) for prompt in prompts]

    def probed(*some: Matrix) -> Reference:
        found = dict(weights)
        for matrix in some:
            form, columns, end_row = _probe(matrix), importance.get(matrix.name), matrix.first_row + matrix.rows
            for part in matrix.parts:
                found[part] = Rounded(found[part], form, columns, matrix.first_row, end_row)
        return Reference(spec, found)

    exact = Reference(spec, weights)
    embeddings = pieces_of(matrices, EMBEDDING)
    heads = pieces_of(matrices, EMBEDDING if spec.tied_embeddings else HEAD)
    x = exact.embedded(prompts)
    states = {EMBEDDING: probed(*embeddings).embedded(prompts)}
    for layer in range(spec.num_layers):
        states = dict(_through(exact, layer, states, lengths))
        for matrix in matrices:
            if matrix.name.startswith(f"model.layers.{layer}."):
                states[matrix.name] = probed(matrix).layer(layer, x, lengths)
                advance(matrix.rows * matrix.columns)
        x = exact.layer(layer, x, lengths)
    expected = list(exact.logits_of(x, lengths))

    def lost(reference: Reference, state: Float32) -> float:
        return compare(zip(prompts, expected, reference.logits_of(state, lengths), strict=True)).mean_kl

    found = {name: lost(exact, state) for name, state in states.items()}
    looked_up = found.pop(EMBEDDING)
    for piece in embeddings:
        found[piece.name] = looked_up * _share(piece, occurring, len(embeddings))
    for piece in heads:
        found[piece.name] = found.get(piece.name, 0.0) + lost(probed(piece), x)
    advance(sum(piece.rows * piece.columns for piece in {*embeddings, *heads}))
    return found


def measuring_bytes(spec: ModelSpec, prompts: Sequence[Sequence[int]]) -> int:
    """The memory that `losses` takes: a state for each matrix, two sets of logits, some states within a layer.

    Within a layer it is as `calibration.calibrating_bytes` counts; of a weight a piece is held rounded, too.
    """
    tokens = sum(map(len, _read(spec, prompts)))
    within = max(tokens, _TOGETHER) * (5 * spec.intermediate_size + 6 * max(spec.hidden_size, spec.q_size))
    states = 2 * 4 * spec.num_layers * tokens * spec.hidden_size
    return 4 * (within + states + 2 * tokens * spec.vocab_size) + 6 * CHUNK_BYTES


def choices(
    matrix: Matrix,
    weights: Mapping[str, Weight],
    importance: Float32 | None,
    loss: float,
    formats: Iterable[Format],
    alignment_bytes: int,
) -> list[Choice]:
    """What each format of a matrix takes and costs.

    Args:
        loss: of the matrix as `PROBED`; see `losses`.
        alignment_bytes: to which the file rounds each tensor up.
    """
    sample = np.concatenate(list(_sample(matrix.stored(weights))))
    probed = _error(sample, _probe(matrix), importance)
    return [
        Choice(
            form,
            stored_bytes(matrix, form, alignment_bytes),
            loss * _error(sample, form, importance) / probed if probed else 0.0,
        )
        for form in formats
    ]


def stored_bytes(matrix: Matrix, form: Format, alignment_bytes: int = 1) -> int:
    """What the matrix takes in a format."""
    stored = form.tensors(matrix.rows, matrix.columns)
    return sum(-(-prod(each.shape) * each.dtype.itemsize // alignment_bytes) * alignment_bytes for each in stored)


def _read(spec: ModelSpec, prompts: Sequence[Sequence[int]]) -> list[Sequence[int]]:
    """What of the prompts is read."""
    if sum(map(prod, spec.weight_shapes().values())) > _LARGE_PARAMETERS:
        return [prompt[:_LARGE_TOKENS] for prompt in prompts[:_LARGE_PROMPTS]]
    return [prompt[:_TOKENS] for prompt in prompts]


def _share(piece: Matrix, occurring: Sequence[int], pieces: int) -> float:
    """Of the tokens that occur in texts, as it is expected of others: one that is in no text is expected still."""
    ids = np.asarray(occurring)
    own = np.count_nonzero((ids >= piece.first_row) & (ids < piece.first_row + piece.rows))
    return (own + 1) / (len(occurring) + pieces)


def _probe(matrix: Matrix) -> Format:
    return PROBED.dividing(matrix.columns) if matrix.kind == "embedding" else PROBED


def _through(
    reference: Reference, layer: int, states: Mapping[str, Float32], lengths: Sequence[int]
) -> Iterator[tuple[str, Float32]]:
    """All states after a layer, some of them at a time."""
    names, together = list(states), max(1, _TOGETHER // sum(lengths))
    for start in range(0, len(names), together):
        group = names[start : start + together]
        x = reference.layer(layer, np.concatenate([states[name] for name in group]), [*lengths] * len(group))
        yield from zip(group, np.split(x, len(group)), strict=True)


def _sample(weights: Iterable[Weight]) -> Iterator[Float32]:
    for weight in weights:
        rows = weight.shape[0]
        starts = sorted({slab * max(0, rows - _SLAB_ROWS) // (_SLABS - 1) for slab in range(_SLABS)})
        for start in starts:
            yield weight.rows(start, min(start + _SLAB_ROWS, rows))


def _error(sample: Float32, form: Format, importance: Float32 | None) -> float:
    squares = np.square(form.rounded(sample, importance) - sample, dtype=np.float64).sum(0)
    return float(squares.sum() if importance is None else squares @ importance)
