"""The decoder in plain numpy float32: what an exported graph is measured against.

It streams: all prompts pass through one layer before the next is read, and of a weight no more than one chunk of rows
is in memory, so the reference of a 24B checkpoint runs on the machine that exports it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bise_export.errors import ExportError
from bise_export.sources.weight import Float32, Weight
from bise_export.spec import Activation, ModelSpec

CHUNK_BYTES = 32 << 20
"""Float32 rows of a weight, or scores of an attention, held at once.

500 tokens of SmolLM2 take 5.7 s at 4 MiB, 2.4 s at 16 MiB, 1.9 s at 64 and at 256 MiB; beside the rows there is what
decoding them takes, two to three times as much.
"""

LOGITS_BYTES = 32 << 20
"""Logits held at once: the output matrix is read once per group of prompts whose logits fit."""

Cache = Callable[[int, Float32, Float32], tuple[Float32, Float32]]
"""(layer, keys, values) → keys and values as attention reads them back.

All are [tokens, kv_heads, head_dim], the keys rotated; called once for each layer and prompt.
"""


Observer = Callable[[str, Float32], None]
"""(projection, input [tokens, columns]): called with what each projection is given, before it is used."""


def float32_cache(_layer: int, keys: Float32, values: Float32) -> tuple[Float32, Float32]:
    """A cache that loses nothing."""
    return keys, values


def _unobserved(_projection: str, _x: Float32) -> None:
    """Nobody looks."""


class Reference:
    """A Llama-shaped decoder over lazily read weights.

    Args:
        spec: the model's numbers.
        weights: every name of `spec.weight_shapes()`.
        cache: what the KV cache does to keys and values (observe them, or round them as an exported one would).
        observe: told what every projection is given, by its canonical name.
        chunk_bytes: see `CHUNK_BYTES`.

    Raises:
        ExportError: a weight is missing or has another shape than `spec` says.
    """

    def __init__(
        self,
        spec: ModelSpec,
        weights: Mapping[str, Weight],
        *,
        cache: Cache = float32_cache,
        observe: Observer = _unobserved,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> None:
        for name, shape in spec.weight_shapes().items():
            found = weights[name].shape if name in weights else None
            if found != shape:
                raise ExportError(f"{name}: the reference expected shape {list(shape)}, got {found and list(found)}")
        self.spec = spec
        self._weights = weights
        self._cache = cache
        self._observe = observe
        self._chunk_bytes = chunk_bytes

    def logits(self, prompts: Sequence[Sequence[int]]) -> list[Float32]:
        """Next-token logits [tokens, vocab] of every position of every prompt.

        Raises:
            ExportError: a prompt is empty or holds an id outside the vocabulary.
        """
        return list(self.each_logits(prompts))

    def each_logits(self, prompts: Sequence[Sequence[int]], logits_bytes: int = LOGITS_BYTES) -> Iterator[Float32]:
        """As `logits`, one prompt at a time, holding about `logits_bytes` of them (or one prompt's, if more)."""
        return self.each_projected(self.hidden(prompts), logits_bytes)

    def each_projected(self, hidden: Sequence[Float32], logits_bytes: int = LOGITS_BYTES) -> Iterator[Float32]:
        """The second half of `each_logits`, from what `hidden` gave."""
        head = "model.embed_tokens" if self.spec.tied_embeddings else "lm_head"
        for group in _groups(hidden, logits_bytes // (4 * self.spec.vocab_size)):
            logits = _soft_capped(self._project(np.concatenate(group), head), self.spec.logit_softcap)
            yield from _split(logits, [len(one) for one in group])

    def hidden(self, prompts: Sequence[Sequence[int]]) -> list[Float32]:
        """The state [tokens, hidden] that the output matrix sees (after the last norm), of every prompt."""
        if not prompts:
            return []
        lengths = [len(prompt) for prompt in prompts]
        x = self.embedded(prompts)
        for layer in range(self.spec.num_layers):
            x = self.layer(layer, x, lengths)
        return self.normed(x, lengths)

    def embedded(self, prompts: Sequence[Sequence[int]]) -> Float32:
        """The state [all tokens, hidden] that the first layer sees.

        Raises:
            ExportError: a prompt is empty or holds an id outside the vocabulary.
        """
        for index, prompt in enumerate(prompts):
            if not prompt or not 0 <= min(prompt) <= max(prompt) < self.spec.vocab_size:
                raise ExportError(
                    f"prompt {index}: expected one or more ids from 0 to {self.spec.vocab_size - 1}, got {list(prompt)}"
                )
        return self._embed(np.concatenate([np.asarray(prompt, np.int64) for prompt in prompts]))

    def layer(self, layer: int, x: Float32, lengths: Sequence[int]) -> Float32:
        """The state [all tokens, hidden] after a layer, of the state before it; `lengths` are the prompts'."""
        norms, prefix = self.spec.norms, f"model.layers.{layer}."
        update = self._attention(layer, self._norm(x, prefix + norms.attention_in), lengths)
        x = x + (update if norms.attention_out is None else self._norm(update, prefix + norms.attention_out))
        update = self._mlp(layer, self._norm(x, prefix + norms.mlp_in))
        x += update if norms.mlp_out is None else self._norm(update, prefix + norms.mlp_out)
        return x

    def normed(self, x: Float32, lengths: Sequence[int]) -> list[Float32]:
        """The state that the output matrix sees, prompt by prompt, of the state after the last layer."""
        return _split(self._norm(x, "model.norm"), lengths)

    def logits_of(self, x: Float32, lengths: Sequence[int]) -> Iterator[Float32]:
        """Next-token logits, prompt by prompt, of the state after the last layer."""
        return self.each_projected(self.normed(x, lengths))

    def _embed(self, ids: NDArray[np.int64]) -> Float32:
        table = self._weights["model.embed_tokens.weight"]
        unique, inverse = np.unique(ids, return_inverse=True)
        rows: Float32 = np.concatenate([table.rows(row, row + 1) for row in unique.tolist()])
        return rows[inverse] * np.float32(self.spec.embedding_scale)

    def _norm(self, x: Float32, name: str) -> Float32:
        scale = self._weights[f"{name}.weight"].rows(0, self.spec.hidden_size)
        variance = np.mean(np.square(x), axis=-1, keepdims=True)
        normed: Float32 = x / np.sqrt(variance + np.float32(self.spec.rms_norm_eps)) * scale
        return normed

    def _project(self, x: Float32, name: str) -> Float32:
        self._observe(name, x)
        weight = self._weights[f"{name}.weight"]
        rows, columns = weight.shape
        step = max(1, self._chunk_bytes // (4 * columns))
        out = np.empty((len(x), rows), np.float32)
        for start in range(0, rows, step):
            stop = min(start + step, rows)
            out[:, start:stop] = x @ weight.rows(start, stop).T
        if name.split(".", 3)[-1] in self.spec.biased:  # model.layers.{i}.self_attn.q_proj
            out += self._weights[f"{name}.bias"].rows(0, rows)
        return out

    def _mlp(self, layer: int, x: Float32) -> Float32:
        prefix = f"model.layers.{layer}.mlp"
        return self._project(
            _ACTIVATIONS[self.spec.activation](self._project(x, f"{prefix}.gate_proj"))
            * self._project(x, f"{prefix}.up_proj"),
            f"{prefix}.down_proj",
        )

    def _attention(self, layer: int, x: Float32, lengths: Sequence[int]) -> Float32:
        spec, prefix = self.spec, f"model.layers.{layer}.self_attn"
        q = self._project(x, f"{prefix}.q_proj").reshape(-1, spec.num_heads, spec.head_dim)
        k = self._project(x, f"{prefix}.k_proj").reshape(-1, spec.num_kv_heads, spec.head_dim)
        v = self._project(x, f"{prefix}.v_proj").reshape(-1, spec.num_kv_heads, spec.head_dim)
        context = []
        for queries, keys, values in zip(_split(q, lengths), _split(k, lengths), _split(v, lengths), strict=True):
            cos, sin = rotary_tables(spec, len(keys))
            stored = self._cache(layer, _rotate(keys, cos, sin), values)
            context.append(self._attend(layer, _rotate(queries, cos, sin), *stored))
        return self._project(np.concatenate(context), f"{prefix}.o_proj")

    def _attend(self, layer: int, queries: Float32, keys: Float32, values: Float32) -> Float32:
        """Causal attention of one prompt: [tokens, heads, head_dim] → [tokens, heads * head_dim]."""
        spec, tokens = self.spec, len(queries)
        groups = spec.num_heads // spec.num_kv_heads
        # The query heads of one group share a key head: [kv_heads, group, tokens, head_dim].
        q = queries.reshape(tokens, spec.num_kv_heads, groups, spec.head_dim).transpose(1, 2, 0, 3)
        q = q * np.float32(spec.attention_scale or 1 / np.sqrt(spec.head_dim))
        k, v = keys.transpose(1, 2, 0), values.swapaxes(0, 1)  # [kv_heads, head_dim, tokens], [kv_heads, tokens, …]
        out = np.empty_like(q)
        block = max(1, self._chunk_bytes // (4 * spec.num_heads * tokens))
        for start in range(0, tokens, block):
            stop = min(start + block, tokens)
            distance = np.arange(start, stop)[:, None] - np.arange(stop)  # [block, stop]
            hidden = (distance < 0) | (distance >= (spec.window(layer) or tokens))
            # A group's heads and the block's tokens are rows of one product: few and large, as BLAS likes them.
            rows = q[:, :, start:stop].reshape(spec.num_kv_heads, -1, spec.head_dim)
            scores = (rows @ k[:, :, :stop]).reshape(spec.num_kv_heads, groups, stop - start, stop)
            scores = _soft_capped(scores, spec.attention_softcap)
            scores[..., hidden] = -np.inf
            context = _softmax(scores).reshape(spec.num_kv_heads, -1, stop) @ v[:, :stop]
            out[:, :, start:stop] = context.reshape(spec.num_kv_heads, groups, stop - start, spec.head_dim)
        return out.transpose(2, 0, 1, 3).reshape(tokens, spec.q_size)


def rotary_tables(spec: ModelSpec, tokens: int) -> tuple[Float32, Float32]:
    """Cosines and sines [tokens, rotary_size / 2] of position × theta^(-2i / rotary_size) (RoFormer, section 3.4.2).

    With rope scaling, each frequency over its divisor and all of them magnified. The angles are float64: a float32
    product at position 30,000 is already off by 0.002 rad.
    """
    size, scaling = spec.rotary_size, spec.rope_scaling.for_context(tokens)
    divisors = np.array(scaling.divisors or (1.0,), np.float64)
    frequencies = spec.rope_theta ** (-np.arange(0, size, 2, dtype=np.float64) / size) / divisors
    angles = np.arange(tokens, dtype=np.float64)[:, None] * frequencies
    cos, sin = scaling.magnitude * np.cos(angles), scaling.magnitude * np.sin(angles)
    return cos.astype(np.float32), sin.astype(np.float32)


def _rotate(x: Float32, cos: Float32, sin: Float32) -> Float32:
    """Rotary embedding, half rotation: pairs (i, i + size / 2) of each head's first `size` channels, the rest as it is.

    x is [tokens, heads, head_dim], cos and sin [tokens, size / 2].
    """
    pairs = cos.shape[1]
    first, second, still = np.split(x, [pairs, 2 * pairs], axis=-1)
    cos, sin = cos[:, None], sin[:, None]
    return np.concatenate([first * cos - second * sin, second * cos + first * sin, still], axis=-1)


def _silu(x: Float32) -> Float32:
    """x · sigmoid(x), with no exponent of a positive number, which could overflow."""
    decay = np.exp(-np.abs(x))
    gated: Float32 = x * np.where(x >= 0, np.float32(1), decay) / (1 + decay)
    return gated


def _gelu_tanh(x: Float32) -> Float32:
    """x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³))) (Hendrycks and Gimpel, 2016)."""
    gated: Float32 = (
        np.float32(0.5) * x * (1 + np.tanh(np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x**3)))
    )
    return gated


_ACTIVATIONS: Mapping[Activation, Callable[[Float32], Float32]] = {"silu": _silu, "gelu_tanh": _gelu_tanh}


def _soft_capped(x: Float32, cap: float | None) -> Float32:
    """cap · tanh(x / cap) (Gemma 2, section 2); x itself without a cap."""
    return x if cap is None else np.float32(cap) * np.tanh(x / np.float32(cap))


def _softmax(scores: Float32) -> Float32:
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares: Float32 = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return shares


def _split(rows: Float32, lengths: Sequence[int]) -> list[Float32]:
    return [rows[start:stop] for start, stop in pairwise(np.cumsum([0, *lengths]).tolist())]


def _groups(prompts: Sequence[Float32], tokens: int) -> Iterator[list[Float32]]:
    """Neighbours together while they count at most `tokens`, but at least one."""
    group: list[Float32] = []
    for prompt in prompts:
        if group and sum(map(len, group)) + len(prompt) > tokens:
            yield group
            group = []
        group.append(prompt)
    if group:
        yield group
