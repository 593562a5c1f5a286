"""What each format calls the weights; the canonical names are Hugging Face's for Llama."""

from __future__ import annotations

import re
from collections.abc import Mapping

GGUF: Mapping[str, str] = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
    "blk.#.attn_norm.weight": "model.layers.#.input_layernorm.weight",
    "blk.#.attn_q.weight": "model.layers.#.self_attn.q_proj.weight",
    "blk.#.attn_k.weight": "model.layers.#.self_attn.k_proj.weight",
    "blk.#.attn_v.weight": "model.layers.#.self_attn.v_proj.weight",
    "blk.#.attn_output.weight": "model.layers.#.self_attn.o_proj.weight",
    "blk.#.ffn_norm.weight": "model.layers.#.post_attention_layernorm.weight",
    "blk.#.ffn_gate.weight": "model.layers.#.mlp.gate_proj.weight",
    "blk.#.ffn_up.weight": "model.layers.#.mlp.up_proj.weight",
    "blk.#.ffn_down.weight": "model.layers.#.mlp.down_proj.weight",
    "blk.#.attn_q.bias": "model.layers.#.self_attn.q_proj.bias",
    "blk.#.attn_k.bias": "model.layers.#.self_attn.k_proj.bias",
    "blk.#.attn_v.bias": "model.layers.#.self_attn.v_proj.bias",
    "blk.#.attn_output.bias": "model.layers.#.self_attn.o_proj.bias",
    "blk.#.ffn_gate.bias": "model.layers.#.mlp.gate_proj.bias",
    "blk.#.ffn_up.bias": "model.layers.#.mlp.up_proj.bias",
    "blk.#.ffn_down.bias": "model.layers.#.mlp.down_proj.bias",
}
MISTRAL: Mapping[str, str] = {
    "tok_embeddings.weight": "model.embed_tokens.weight",
    "norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
    "layers.#.attention_norm.weight": "model.layers.#.input_layernorm.weight",
    "layers.#.attention.wq.weight": "model.layers.#.self_attn.q_proj.weight",
    "layers.#.attention.wk.weight": "model.layers.#.self_attn.k_proj.weight",
    "layers.#.attention.wv.weight": "model.layers.#.self_attn.v_proj.weight",
    "layers.#.attention.wo.weight": "model.layers.#.self_attn.o_proj.weight",
    "layers.#.ffn_norm.weight": "model.layers.#.post_attention_layernorm.weight",
    "layers.#.feed_forward.w1.weight": "model.layers.#.mlp.gate_proj.weight",
    "layers.#.feed_forward.w3.weight": "model.layers.#.mlp.up_proj.weight",
    "layers.#.feed_forward.w2.weight": "model.layers.#.mlp.down_proj.weight",
}
HUGGING_FACE: Mapping[str, str] = {
    name: name
    for name in (
        *GGUF.values(),
        "model.layers.#.pre_feedforward_layernorm.weight",
        "model.layers.#.post_feedforward_layernorm.weight",
    )
}
# Buffers that old converters saved along: functions of the config, not weights.
HARMLESS = frozenset({"model.layers.#.self_attn.rotary_emb.inv_freq", "rope.freqs", "blk.#.attn_rot_embd.weight"})
# The projections whose rows RoPE pairs up, which formats order differently.
ROTATED = frozenset(
    f"model.layers.#.self_attn.{part}.{suffix}" for part in ("q_proj", "k_proj") for suffix in ("weight", "bias")
)

_NUMBER = re.compile(r"(?<=\.)(?:0|[1-9][0-9]{0,4})(?=\.)")


def pattern_of(name: str) -> str:
    """`name` with its layer number as `#`."""
    return _NUMBER.sub("#", name, count=1)


def layer_of(name: str) -> str:
    """The layer number in `name`, as written; empty where it names none."""
    number = _NUMBER.search(name)
    return number.group() if number else ""


def canonical(name: str, table: Mapping[str, str]) -> str | None:
    """The canonical name of what a format with this `table` calls `name`; None where the table has no such weight."""
    pattern = table.get(pattern_of(name))
    if pattern is None:
        return None
    return pattern.replace("#", layer_of(name))
