"""What size a person asks for, and the plan that reaches it: measure each matrix, then choose its format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

from bise_export import contents
from bise_export.contents import Matrix
from bise_export.errors import ExportError
from bise_export.manifest import WEIGHT_FILE
from bise_export.quant.formats import Format
from bise_export.quant.planner import plan
from bise_export.quant.recipes import Recipe, candidates
from bise_export.quant.sensitivity import choices, stored_bytes
from bise_export.sources.weight import Float32, Weight
from bise_export.spec import ModelSpec
from bise_export.writer import ALIGNMENT_BYTES, Layout

# The manifest is written last, and with fifty source files it has 12 KB; offsets in the graph are decimal numbers,
# whose digits depend on the plan.
_MANIFEST_BYTES = 32 << 10


@dataclass(frozen=True, slots=True)
class Around:
    """What a bundle holds beside its matrices.

    Attributes:
        parameters: of the whole model.
        vector_bytes: of norms and biases.
        file_bytes: of the weight file without the matrices, the graph and the tokenizer.
    """

    parameters: int
    vector_bytes: int
    file_bytes: int


@dataclass(frozen=True, slots=True)
class Bits:
    """Average bits of all the model's parameters, scales and zero points included; what a manifest tells."""

    per_weight: float

    alignment_bytes = 1

    def matrices_bytes(self, around: Around) -> int:
        """What that leaves for the matrices."""
        return int(self.per_weight * around.parameters / 8) - around.vector_bytes

    def least(self, smallest_bytes: int, around: Around) -> str:
        """What a person has to ask for if the matrices take so many bytes at least."""
        hundredths = -(-800 * (smallest_bytes + around.vector_bytes) // around.parameters)
        return f"--bits {hundredths / 100:.2f}"

    def __str__(self) -> str:
        return f"--bits {self.per_weight:g}"


@dataclass(frozen=True, slots=True)
class Fit:
    """The size of a whole bundle: every file of it."""

    size_bytes: int

    alignment_bytes = ALIGNMENT_BYTES

    def matrices_bytes(self, around: Around) -> int:
        """What that leaves for the matrices."""
        return self.size_bytes - around.file_bytes - _MANIFEST_BYTES

    def least(self, smallest_bytes: int, around: Around) -> str:
        """What a person has to ask for if the matrices take so many bytes at least."""
        mebibytes = -(-(smallest_bytes + around.file_bytes + _MANIFEST_BYTES) // (1 << 20))
        return f"--fit {mebibytes}MiB"

    def __str__(self) -> str:
        return f"--fit {self.size_bytes}"


Goal = Bits | Fit


def smallest(matrices: Sequence[Matrix], block_size: int, alignment_bytes: int) -> dict[str, Format]:
    """The format of each matrix that takes the fewest bytes."""

    def least(matrix: Matrix) -> Format:
        formats = candidates(block_size, matrix.kind, matrix.columns)
        return min(formats, key=lambda form: stored_bytes(matrix, form, alignment_bytes))

    return {matrix.name: least(matrix) for matrix in matrices}


def around_matrices(
    folder: Path, goal: Goal, base: Recipe, spec: ModelSpec, build: Callable[[Recipe], tuple[ir.Model, Layout]]
) -> Around:
    """What the bundle in `folder`, whose tokenizer is there, holds beside its matrices; `build` makes its graph."""
    least = replace(base, planned=smallest(contents.matrices(spec, base), base.block_size, goal.alignment_bytes))
    model, layout = build(least)
    matrices, vectors = contents.matrices(spec, least), contents.vectors(spec)
    in_weight_file = layout.size_bytes - sum(stored_bytes(each, each.format, ALIGNMENT_BYTES) for each in matrices)
    tokenizer_bytes = sum(
        path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name != WEIGHT_FILE
    )
    return Around(
        parameters=sum(each.rows * each.columns for each in matrices) + sum(each.size for each in vectors),
        vector_bytes=sum(each.size for each in vectors) * base.activations.itemsize,
        file_bytes=in_weight_file + ir.to_proto(model).ByteSize() + tokenizer_bytes,
    )


def check_reachable(goal: Goal, matrices: Sequence[Matrix], block_size: int, around: Around) -> None:
    """Refuses a goal that no plan reaches, before anything is measured.

    Raises:
        ExportError: with the least that can be asked for.
    """
    least = smallest(matrices, block_size, goal.alignment_bytes)
    least_bytes = sum(stored_bytes(each, least[each.name], goal.alignment_bytes) for each in matrices)
    if goal.matrices_bytes(around) < least_bytes:
        raise ExportError(
            f"{goal}: expected {goal.least(least_bytes, around)} or more, which is every matrix in its smallest form. "
            "Ask for that, or take a smaller model."
        )


def planned(
    goal: Goal,
    matrices: Sequence[Matrix],
    block_size: int,
    around: Around,
    weights: Mapping[str, Weight],
    importance: Mapping[str, Float32],
    lost: Mapping[str, float],
) -> dict[str, Format]:
    """The format of each matrix, for the least expected loss within a goal that can be reached.

    Args:
        block_size: see `recipes.candidates`.
        importance: by matrix name, as its quantizer sees it.
        lost: by matrix name; see `sensitivity.losses`.
    """
    table = {
        each.name: choices(
            each,
            weights,
            importance.get(each.name),
            lost[each.name],
            candidates(block_size, each.kind, each.columns),
            goal.alignment_bytes,
        )
        for each in matrices
    }
    return {name: choice.format for name, choice in plan(table, goal.matrices_bytes(around)).items()}
