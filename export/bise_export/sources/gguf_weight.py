"""GGUF tensors as float32, block by block as the `gguf` library defines them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

from bise_export.errors import UnsupportedError
from bise_export.sources.gguf_header import GgufTensor
from bise_export.sources.weight import Float32

_READABLE = frozenset(
    GGMLQuantizationType[name]
    for name in ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K")
)


@dataclass(frozen=True, slots=True)
class GgufWeight:
    """One tensor of a GGUF file."""

    tensor: GgufTensor

    @property
    def shape(self) -> tuple[int, ...]:
        return self.tensor.shape

    @property
    def dtype(self) -> str:
        return self.tensor.type.name

    @property
    def file(self) -> Path:
        return self.tensor.extent.file

    def rows(self, start: int, stop: int) -> Float32:
        shape, kind = self.tensor.shape, self.tensor.type
        row_bytes = self.tensor.extent.size_bytes // shape[0]
        data = self.tensor.extent.read(start * row_bytes, stop * row_bytes)
        if start == stop:
            return np.empty((0, *shape[1:]), np.float32)
        with np.errstate(all="ignore"):  # broken scales give NaN and infinity, which Finite reports
            values: Float32 = dequantize(data.reshape(-1, row_bytes), kind)
        return values.reshape(stop - start, *shape[1:])


def gguf_weight(name: str, tensor: GgufTensor) -> GgufWeight:
    """The tensor called `name` as a weight.

    Raises:
        UnsupportedError: bise does not read its element type, or it is a vector of a type that comes in blocks.
    """
    block, _ = GGML_QUANT_SIZES[tensor.type]
    if tensor.type not in _READABLE or (len(tensor.shape) == 1 and block > 1):
        known = ", ".join(sorted(kind.name for kind in _READABLE))
        raise UnsupportedError(
            f"{tensor.extent.file}: {name!r:.80}: expected an element type of {known} (F32, F16, BF16 for a vector), "
            f"got {tensor.type.name}. Convert the model to one of these."
        )
    return GgufWeight(tensor)
