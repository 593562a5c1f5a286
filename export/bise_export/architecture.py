"""A model's numbers as the manifest holds them, there and back."""

from __future__ import annotations

from math import prod
from typing import cast

from bise_export.rope_scaling import RopeScaling
from bise_export.spec import Activation, ModelSpec, NormPlacement
from bise_proto.v1 import bundle_pb2


def architecture_of(spec: ModelSpec) -> bundle_pb2.Architecture:
    """The manifest's form of `spec`, which must be of one context: see `ModelSpec.for_context`."""
    scaling = spec.rope_scaling
    assert scaling.short_context is None, "a bundle has one set of rotary frequencies"
    return bundle_pb2.Architecture(
        family=spec.family,
        num_layers=spec.num_layers,
        hidden_size=spec.hidden_size,
        intermediate_size=spec.intermediate_size,
        num_heads=spec.num_heads,
        num_kv_heads=spec.num_kv_heads,
        head_dim=spec.head_dim,
        vocab_size=spec.vocab_size,
        tied_embeddings=spec.tied_embeddings,
        rope_theta=spec.rope_theta,
        rms_norm_eps=spec.rms_norm_eps,
        trained_context=spec.trained_context,
        sliding_window=spec.sliding_window or 0,
        parameters=sum(prod(shape) for shape in spec.weight_shapes().values()),
        full_attention_layers=spec.full_attention_layers,
        rotary_dim=spec.rotary_dim or 0,
        rope_scaling=bundle_pb2.RopeScaling(divisors=scaling.divisors, magnitude=scaling.magnitude),
        biased=spec.biased,
        activation=spec.activation,
        norm_placement=spec.norm_placement,
        embedding_scale=spec.embedding_scale,
        attention_scale=spec.attention_scale or 0,
        attention_softcap=spec.attention_softcap or 0,
        logit_softcap=spec.logit_softcap or 0,
    )


def spec_of(bundle: bundle_pb2.Bundle) -> ModelSpec:
    """The numbers of a bundle's model, from its manifest; what older manifests don't say is as in Llama.

    Raises:
        SourceError: a number is out of its bounds.
        UnsupportedError: no kernel rotates so many channels.
    """
    a, tokenizer = bundle.architecture, bundle.tokenizer
    return ModelSpec(
        family=a.family,
        hidden_size=a.hidden_size,
        intermediate_size=a.intermediate_size,
        num_layers=a.num_layers,
        num_heads=a.num_heads,
        num_kv_heads=a.num_kv_heads,
        head_dim=a.head_dim,
        vocab_size=a.vocab_size,
        trained_context=a.trained_context,
        rms_norm_eps=a.rms_norm_eps,
        rope_theta=a.rope_theta,
        tied_embeddings=a.tied_embeddings,
        bos_token_id=tokenizer.bos_token_id if tokenizer.HasField("bos_token_id") else None,
        eos_token_ids=tuple(tokenizer.eos_token_ids),
        sliding_window=a.sliding_window or None,
        full_attention_layers=tuple(a.full_attention_layers),
        rotary_dim=a.rotary_dim or None,
        rope_scaling=RopeScaling(tuple(a.rope_scaling.divisors), a.rope_scaling.magnitude or 1.0),
        biased=tuple(a.biased),
        activation=cast(Activation, a.activation or "silu"),  # ModelSpec checks it
        norm_placement=cast(NormPlacement, a.norm_placement or "before"),
        embedding_scale=a.embedding_scale or 1.0,
        attention_scale=a.attention_scale or None,
        attention_softcap=a.attention_softcap or None,
        logit_softcap=a.logit_softcap or None,
    )
