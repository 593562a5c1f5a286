"""What the reference sees on a few prompts: scales of the int8 KV cache, and how large each projection's inputs are.

The sizes are mean squares of each input channel: the diagonal of what a layer's output error is to its weights' errors
(LeCun et al., Optimal Brain Damage, 1990), and so what an error in each column of a matrix costs.

Scales are one per channel. Measured on SmolLM2-135M-Instruct: keys and values rounded in the reference, KL in nats
against unrounded ones over the 716 positions of `prompts.VERIFICATION`, scales from `prompts.CALIBRATION`. "At 4,000"
moves every key on by 4,000 positions before it is rounded and back after: exact arithmetic would not notice.

    keys             values          mean KL   p99 KL   top-1   mean KL, top-1 at 4,000
    peak x 1.1       peak x 1.1      0.0016    0.011    97.8 %  0.62,   52 %
    pair x 1.1       peak x 1.1      0.0023    0.019    96.2 %  0.0022, 97 %
    pair x 1.25      peak x 1.1      0.0026    0.017    95.7 %  0.0027, 96 %
    pair x 1.1       peak x 1.25     0.0024    0.016    96.9 %  0.0025, 97 %
    peak x 1         peak x 1        0.0024    0.024    97.9 %
    99.9 % quantile  the same        0.0035    0.037    97.2 %
    peak x 1.1, both without the first token
                                     0.0057    0.053    95.1 %

So the extremes are kept, the first token's too: attention sinks live on keys far from all others. And a key channel's
bound is not its own peak but the length of the pair it rotates in. RoPE turns the pairs on as the context grows, the
slow ones by next to nothing within a calibration prompt, so a channel's own peak there says nothing of what position
4,000 brings; the length of the pair is the same everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from bise_export.errors import ExportError
from bise_export.quant.kv import LayerScales
from bise_export.reference import CHUNK_BYTES, Cache, Reference
from bise_export.sources.weight import Float32, Weight
from bise_export.spec import ModelSpec

# Room over the observed peak. Of the verification set's values 0.17 % lie beyond 1.0 peaks, 0.06 % beyond 1.1 and
# 0.02 % beyond 1.25, where the coarser step already costs more than the clipping saved.
_MARGIN = 1.1
# From here on a model counts as large. A token costs two operations a parameter: 715 tokens through 24 B parameters are
# 34 TFLOP, which two cores at 80 to 150 GFLOP/s take four to seven minutes for; 384 tokens take half of that.
_LARGE_PARAMETERS = 4_000_000_000
_LARGE_TOKENS = 48
_LARGE_MARGIN = 1.25
_LARGEST = 127
# Below this a channel counts as always zero, and any scale serves it.
_ZERO = 1e-20


@dataclass(frozen=True, slots=True)
class Calibration:
    """What one pass over the prompts tells.

    Attributes:
        scales: of every layer's keys and values.
        mean_squares: of every input channel [columns] of each projection, by canonical name: "model.layers.0.mlp.…",
            and "lm_head" for the output matrix, tied or not.
    """

    scales: tuple[LayerScales, ...]
    mean_squares: Mapping[str, Float32]


def calibrate(spec: ModelSpec, weights: Mapping[str, Weight], prompts: Sequence[Sequence[int]]) -> Calibration:
    """The same for the same weights and prompts.

    Args:
        spec: the model's numbers.
        weights: every name of `spec.weight_shapes()`.
        prompts: token ids that stand for what the model will read.

    Raises:
        ExportError: there is no prompt, or a key or value is not finite.
    """
    if not prompts:
        raise ExportError("calibration: expected one or more prompts, got none. Give some tokenized texts.")
    shape = (spec.num_layers, spec.num_kv_heads, spec.head_dim)
    key_peaks, value_peaks = np.zeros(shape, np.float32), np.zeros(shape, np.float32)

    def observe(layer: int, keys: Float32, values: Float32) -> tuple[Float32, Float32]:
        np.maximum(key_peaks[layer], _pair_lengths(keys, spec.rotary_size).max(0), out=key_peaks[layer])
        np.maximum(value_peaks[layer], np.abs(values).max(0), out=value_peaks[layer])
        if not (np.isfinite(key_peaks[layer]).all() and np.isfinite(value_peaks[layer]).all()):
            raise ExportError(
                f"layer {layer}: expected finite keys and values, got others. The checkpoint's weights overflow "
                "float32: export another, or use --kv fp32."
            )
        return keys, values

    mean_squares: dict[str, Float32] = {}

    def square(projection: str, x: Float32) -> None:
        mean_squares[projection] = (np.einsum("tc,tc->c", x, x) / np.float32(len(x))).astype(np.float32)

    margin = _LARGE_MARGIN if is_large(spec) else _MARGIN
    hidden = Reference(spec, weights, cache=observe, observe=square).hidden(taken(spec, prompts))
    square("lm_head", np.concatenate(hidden))
    scales = tuple(
        LayerScales(key=_scales(keys, margin), value=_scales(values, margin))
        for keys, values in zip(key_peaks, value_peaks, strict=True)
    )
    return Calibration(scales, mean_squares)


def taken(spec: ModelSpec, prompts: Sequence[Sequence[int]]) -> list[Sequence[int]]:
    """What of the prompts a model reads: of a large one's, the first tokens of each."""
    return [prompt[: _LARGE_TOKENS if is_large(spec) else None] for prompt in prompts]


def calibrating_bytes(spec: ModelSpec, prompts: Sequence[Sequence[int]]) -> int:
    """The memory that `calibrate` takes: the states of all tokens within one layer, and pieces of a weight.

    Five arrays as wide as the feed-forward live at once (gate, its decay and two steps of its activation, then up), and
    six as wide as the hidden state or the queries. A piece is held as stored, as floats, and as BLAS packs it.
    """
    tokens = sum(map(len, taken(spec, prompts)))
    widths = 5 * spec.intermediate_size + 6 * max(spec.hidden_size, spec.q_size)
    return 4 * tokens * widths + 4 * CHUNK_BYTES


def int8_cache(scales: Sequence[LayerScales]) -> Cache:
    """What an int8 cache gives back: `round(x / scale)`, ties to even, clamped to -128 … 127, times the scale.

    GroupQueryAttention's CPU kernel computes exactly this, for the tokens of the running step too.
    """

    def round_trip(layer: int, keys: Float32, values: Float32) -> tuple[Float32, Float32]:
        return _rounded(keys, scales[layer].key[:, :, 0]), _rounded(values, scales[layer].value[:, :, 0])

    return round_trip


def is_large(spec: ModelSpec) -> bool:
    """Whether a pass of the reference over every text takes so long that a part of each must do."""
    return sum(map(prod, spec.weight_shapes().values())) > _LARGE_PARAMETERS


def _pair_lengths(keys: Float32, rotary_size: int) -> Float32:
    """For each channel, the length of the pair (i, i + rotary_size / 2) it rotates in; shaped as keys.

    Channels from `rotary_size` on don't rotate: there it is their own magnitude.
    """
    first, second, still = np.split(keys, [rotary_size // 2, rotary_size], axis=-1)
    lengths = np.hypot(first, second)
    return np.concatenate([lengths, lengths, np.abs(still)], axis=-1)


def _scales(peaks: Float32, margin: float) -> Float32:
    """[kv_heads, head_dim] → [1, kv_heads, 1, head_dim]."""
    scales = np.where(peaks > _ZERO, peaks * np.float32(margin / _LARGEST), np.float32(1))
    return scales[None, :, None].astype(np.float32)


def _rounded(x: Float32, scale: Float32) -> Float32:
    """x [tokens, kv_heads, head_dim], scale [1, kv_heads, head_dim]."""
    rounded: Float32 = np.clip(np.rint(x / scale), -128, 127) * scale
    return rounded
