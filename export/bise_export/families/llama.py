"""Llama: the plain decoder, and the base the other families differ from."""

from __future__ import annotations

from dataclasses import dataclass

from bise_export.errors import SourceError
from bise_export.families.config import Config
from bise_export.families.quirks import refuse_quirks
from bise_export.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class Llama:
    """How a Llama config becomes a `ModelSpec`. Defaults are those of transformers' LlamaConfig."""

    name: str = "llama"
    default_trained_context: int = 2048

    def build_spec(self, config: Config) -> ModelSpec:
        """The spec of `config` (Hugging Face keys).

        Raises:
            SourceError: a key is missing, of the wrong type, out of bounds, or contradicts another.
            UnsupportedError: the config asks for something bise does not do.
        """
        refuse_quirks(config)
        hidden_size, num_heads = config.integer("hidden_size"), config.integer("num_attention_heads")
        bos_ids = config.token_ids("bos_token_id", (1,))
        return ModelSpec(
            family=self.name,
            hidden_size=hidden_size,
            intermediate_size=config.integer("intermediate_size"),
            num_layers=config.integer("num_hidden_layers"),
            num_heads=num_heads,
            num_kv_heads=self._num_kv_heads(config, num_heads),
            head_dim=config.optional_integer("head_dim") or _derived_head_dim(hidden_size, num_heads),
            vocab_size=config.integer("vocab_size"),
            trained_context=config.integer("max_position_embeddings", self.default_trained_context),
            rms_norm_eps=config.number("rms_norm_eps", 1e-6),
            rope_theta=config.number("rope_theta", config.section("rope_parameters").number("rope_theta", 10000.0)),
            tied_embeddings=config.boolean("tie_word_embeddings", False),
            bos_token_id=bos_ids[0] if bos_ids else None,
            eos_token_ids=config.token_ids("eos_token_id", (2,)),
            sliding_window=self._sliding_window(config),
        )

    def _num_kv_heads(self, config: Config, num_heads: int) -> int:
        return config.integer("num_key_value_heads", num_heads)

    def _sliding_window(self, config: Config) -> int | None:  # noqa: ARG002 - Llama has none; Mistral reads it
        return None


def _derived_head_dim(hidden_size: int, num_heads: int) -> int:
    if num_heads < 1 or hidden_size % num_heads:
        raise SourceError(
            "head_dim: expected it written, or hidden_size a multiple of num_attention_heads; "
            f"got {hidden_size} and {num_heads}. Get the checkpoint's own file again."
        )
    return hidden_size // num_heads
