"""A prompt's attention over an int8 cache, in float32 products.

GroupQueryAttention converts int8 entries anew for every query. For a token of an answer that is the fastest way, but
128 prompt tokens behind 2,000 take it 3.5 times as long as products over entries converted once. So such a graph has
both. The two differ in last bits, and so does what they leave in the cache. A step may hold a prompt's chunk and a
token for each of some rows: all matrices multiply both at once, each attends in its way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bise_export.errors import UnsupportedError
from bise_export.graph.builder import MICROSOFT, Attribute, Builder
from bise_export.quant.kv import Cache, Int8Cache
from bise_export.quant.recipes import PromptAttention, Target
from bise_export.spec import ModelSpec

# Behind so many tokens, products of attention beside those of the matrices, above which a graph gets both ways. The
# fused kernel takes about six times as long for a product as the matrices do, so at this share attention takes a third
# of a prompt's time and could take a tenth. Below it, what is lost counts more: an answer's entries are computed again
# when they are part of the next prompt. SmolLM2 is at 0.7, 1 to 3 billion parameters at 0.1 to 0.2, Mistral 7B at 0.07
# and Mistral Small 3 at 0.03.
_SHARE_TOKENS = 2048
_LEAST_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class PromptSteps:
    """What the layers of a prompt's step share.

    Attributes:
        is_prompt: bool []; the rest means nothing where it is false.
        has_rows: bool []; rows come behind the chunk.
        count: int64 [1], of the chunk's tokens.
        past: int64 [1], tokens in its slot before the step.
        total: int64 [1], with the new ones.
        positions: int64 [1, sequence], of the new tokens.
        masks: by window, float32 [sequence, total]: 0 where a token attends, minus infinity elsewhere.
    """

    is_prompt: ir.Value
    has_rows: ir.Value
    count: ir.Value
    past: ir.Value
    total: ir.Value
    positions: ir.Value
    masks: dict[int | None, ir.Value]


def chosen(asked: PromptAttention | None, target: Target, cache: Cache, spec: ModelSpec) -> PromptAttention:
    """How prompts attend: as asked for, else in a way of their own where that is possible and pays.

    Raises:
        UnsupportedError: what is asked for is not possible.
    """
    possible = target == "cpu" and isinstance(cache, Int8Cache)
    if asked == "float" and not possible:
        raise UnsupportedError(
            "--prompt-attention float: expected an int8 cache on cpu. Leave it out, or give --kv int8."
        )
    return asked or ("float" if possible and pays(spec) else "fused")


def pays(spec: ModelSpec) -> bool:
    """Whether a prompt's attention is a large enough part of its work for a way of its own."""
    in_layers = (shape for name, shape in spec.weight_shapes().items() if name.startswith("model.layers."))
    matrices = sum(shape[0] * shape[1] for shape in in_layers if len(shape) > 1)
    read = sum(min(_SHARE_TOKENS, spec.window(layer) or _SHARE_TOKENS) for layer in range(spec.num_layers))
    return 2 * read * spec.q_size / matrices >= _LEAST_SHARE


def prompt_steps(
    builder: Builder, spec: ModelSpec, input_ids: ir.Value, tokens: ir.Value, end: ir.Value
) -> PromptSteps:
    """Computes them, most of them for prompts' steps only.

    Args:
        input_ids: [1, sequence] in a prompt's step.
        tokens: int64 [], of these, the first ones that are a prompt's.
        end: int64 [], how many its slot holds with them.
    """
    windows = sorted({spec.window(layer) for layer in range(spec.num_layers)}, key=lambda each: each or 0)
    names = ["has_rows", "count", "past", "total", "positions", *(f"mask.{window or 'all'}" for window in windows)]
    kinds = [ir.DataType.BOOL] + [ir.DataType.INT64] * 4 + [ir.DataType.FLOAT] * len(windows)
    unit, nothing = (builder.scalar(f"scalar.{number}", np.int64(number)) for number in (1, 0))
    (is_prompt,) = builder.op("Greater", [tokens, nothing], ["is_prompt"])

    prompt = builder.branch()
    zero, one = (builder.constant(f"axis.{axis}", [axis]) for axis in (0, 1))
    (sequence,) = prompt.op("Size", [input_ids], ["prompt/sequence"])
    (has_rows,) = prompt.op("Greater", [sequence, tokens], ["prompt/has_rows"])
    (count,) = prompt.op("Unsqueeze", [tokens, zero], ["prompt/count"])
    (ends,) = prompt.op("Unsqueeze", [end, zero], ["prompt/total"])
    (first,) = prompt.op("Sub", [end, tokens], ["prompt/first"])
    (begins,) = prompt.op("Unsqueeze", [first, zero], ["prompt/past"])
    (new,) = prompt.op("Range", [first, end, unit], ["prompt/new"])
    (positions,) = prompt.op("Unsqueeze", [new, zero], ["prompt/positions"])
    (queries,) = prompt.op("Unsqueeze", [new, one], ["prompt/queries"])  # [sequence, 1]
    (keys,) = prompt.op("Range", [nothing, end, unit], ["prompt/keys"])  # [total]
    seen, unseen = (
        builder.scalar(f"mask.{name}", value) for name, value in (("0", np.float32(0)), ("-inf", np.float32("-inf")))
    )
    masks = []
    for window in windows:
        name = f"prompt/mask.{window or 'all'}"
        (visible,) = prompt.op("LessOrEqual", [keys, queries], [f"{name}/causal"])
        if window is not None:
            width = builder.scalar(f"window.{window}", np.int64(window))
            (begin,) = prompt.op("Sub", [queries, width], [f"{name}/begin"])
            (near,) = prompt.op("Greater", [keys, begin], [f"{name}/near"])
            (visible,) = prompt.op("And", [visible, near], [f"{name}/visible"])
        masks += prompt.op("Where", [visible, seen, unseen], [name])

    # What an answer's steps are given instead is read by nobody.
    answer = builder.branch()
    point = builder.constant("shape.1.1", [1, 1])
    unread = answer.op("Greater", [nothing, unit], ["answer/has_rows"])
    unread += [answer.op("Identity", [zero], [f"answer/{name}"])[0] for name in names[1:4]]
    unread += answer.op("Reshape", [zero, point], ["answer/positions"])
    unread += [answer.op("Reshape", [seen, point], [f"answer/{name}"])[0] for name in names[5:]]
    has_rows, count, past, total, positions, *masks = builder.either(
        is_prompt,
        prompt.graph("prompt_steps", [has_rows, count, begins, ends, positions, *masks], kinds),
        answer.graph("answer_steps", unread, kinds),
        [f"prompt_steps/{name}" for name in names],
    )
    return PromptSteps(is_prompt, has_rows, count, past, total, positions, dict(zip(windows, masks, strict=True)))


def prompt_attention(
    builder: Builder,
    spec: ModelSpec,
    layer: int,
    qkv: ir.Value,
    steps: PromptSteps,
    past: tuple[ir.Value, ir.Value],
    tables: tuple[ir.Value, ir.Value],
    scales: tuple[ir.Value, ir.Value],
) -> list[ir.Value]:
    """Attends over the cache with the new entries in it, rounded as they will be read later.

    So it makes no difference how a prompt is cut into steps: each row of a product is the same, to the last bit, beside
    whatever rows, and a masked entry adds zero.

    Args:
        builder: of the branch that is taken for prompts.
        qkv: of the chunk, [1, sequence, q_size + 2 * kv_size].
        past: key and value of its slot, each int8 [1, kv_heads, capacity, head_dim].
        tables: cos and sin, [context, rotary_size / 2].
        scales: of keys and values, each [1, kv_heads, 1, head_dim].

    Returns:
        The attention's output [1, sequence, q_size], and the present key and value, shaped as past.
    """
    heads, size = spec.num_kv_heads, spec.head_dim
    group = spec.num_heads // heads
    at = f"model.layers.{layer}.self_attn/prompt/"

    def op(kind: str, inputs: Sequence[ir.Value], name: str, domain: str = "", **attributes: Attribute) -> ir.Value:
        return builder.op(kind, inputs, [at + name], domain, **attributes)[0]

    def shaped(x: ir.Value, shape: list[int], name: str) -> ir.Value:
        return op("Reshape", [x, builder.constant("shape." + ".".join(map(str, shape)), shape)], name)

    sizes = builder.constant("qkv_sizes", [spec.q_size, spec.kv_size, spec.kv_size])
    query, key, value = builder.op("Split", [qkv, sizes], [at + part for part in ("query", "key", "value")], axis=2)

    def rotated(x: ir.Value, of: int, name: str) -> ir.Value:
        rotary = {} if spec.rotary_size == size else {"rotary_embedding_dim": spec.rotary_size}
        inputs = [x, steps.positions, *tables]
        return op("RotaryEmbedding", inputs, name, MICROSOFT, num_heads=of, interleaved=0, **rotary)

    def cached(x: ir.Value, scale: ir.Value, held: ir.Value, name: str) -> tuple[ir.Value, ir.Value]:
        """Appends x to the cache: (all of the cache, the row's entries as floats [1, kv_heads, total, head_dim])."""
        # By channel, QuantizeLinear would go element by element: a tenth of a prompt's time.
        scaled = op("Div", [x, shaped(scale, [-1], f"{name}/scales")], f"{name}/scaled")
        unit, nothing = builder.scalar("quantum", np.float32(1)), builder.scalar("quantum.zero", np.int8(0))
        rounded = op("QuantizeLinear", [scaled, unit, nothing], f"{name}/rounded")
        split = shaped(rounded, [0, -1, heads, size], f"{name}/heads")
        new = op("Transpose", [split], f"{name}/new", perm=[0, 2, 1, 3])
        present = op("TensorScatter", [held, new, steps.past], f"{name}/present", axis=2)
        bounds = [builder.constant("axis.0", [0]), steps.total, builder.constant("axis.2", [2])]
        entries = op("Slice", [present, *bounds], f"{name}/entries")
        return present, op("Cast", [entries], f"{name}/floats", to=int(ir.DataType.FLOAT))

    present_key, keys = cached(rotated(key, heads, "key/rotated"), scales[0], past[0], "key")
    present_value, values = cached(value, scales[1], past[1], "value")

    # The query heads of a group are rows of one product with the keys they share: [1, kv_heads, group * sequence, …].
    by_token = shaped(rotated(query, spec.num_heads, "query/rotated"), [-1, heads, group, size], "query/heads")
    by_head = op("Transpose", [by_token], "query/by_head", perm=[1, 2, 0, 3])
    grouped = shaped(by_head, [1, heads, -1, size], "query/grouped")
    scaled = op("Mul", [grouped, scales[0]], "query/scaled")
    alpha = size**-0.5 if spec.attention_scale is None else spec.attention_scale
    scores = op("FusedMatMul", [scaled, keys], "scores", MICROSOFT, transB=1, alpha=alpha)
    if spec.attention_softcap is not None:
        cap, inverse = (
            builder.scalar(f"attention_softcap/{name}", np.float32(number))
            for name, number in (("cap", spec.attention_softcap), ("inverse", 1 / spec.attention_softcap))
        )
        bounded = op("Tanh", [op("Mul", [scores, inverse], "scores/shrunk")], "scores/bounded")
        scores = op("Mul", [bounded, cap], "scores/capped")
    masked = op(
        "Add", [shaped(scores, [heads, group, -1, 0], "scores/heads"), steps.masks[spec.window(layer)]], "masked"
    )
    shares = shaped(op("Softmax", [masked], "shares", axis=-1), [1, heads, -1, 0], "shares/grouped")
    summed = op("Mul", [op("MatMul", [shares, values], "summed"), scales[1]], "summed/scaled")
    back = op(
        "Transpose", [shaped(summed, [heads, group, -1, size], "output/heads")], "output/by_token", perm=[2, 0, 1, 3]
    )
    return [shaped(back, [1, -1, spec.q_size], "output"), present_key, present_value]
