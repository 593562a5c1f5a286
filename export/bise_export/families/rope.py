"""Rotary embedding as configs write it: theta, a part of each head, and the kinds of scaling."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil, floor, log, pi, sqrt

import numpy as np
from numpy.typing import NDArray

from bise_export.errors import SourceError, UnsupportedError
from bise_export.families.config import Config
from bise_export.rope_scaling import RopeScaling

# transformers 5 writes rope_parameters, earlier versions rope_scaling, which counts where both are.
_SECTIONS = ("rope_scaling", "rope_parameters")
_DEFAULT_THETA = 10000.0
_COMMON_KEYS = frozenset({"rope_type", "type", "rope_theta", "partial_rotary_factor"})
_ORIGINAL = "original_max_position_embeddings"


@dataclass(frozen=True, slots=True)
class Rotary:
    """What a config says of rotary embedding; see `ModelSpec`.

    Attributes:
        context: tokens it serves; YaRN is often switched on without a word to `max_position_embeddings`.
    """

    theta: float
    dim: int
    scaling: RopeScaling
    context: int


@dataclass(frozen=True, slots=True)
class _Section:
    """A rope section with what its formulas need from outside it.

    Attributes:
        config: the section.
        theta: the base of its frequencies.
        dim: rotating channels.
        trained_context: of the model, in tokens.
        original_context: the same before it was stretched.
    """

    config: Config
    theta: float
    dim: int
    trained_context: int
    original_context: int

    def factor(self) -> float:
        """How far the context was stretched, where it may be left to the two contexts."""
        return self.config.positive("factor", self.trained_context / self.original_context)

    def blended(self, kept: NDArray[np.float64], factor: float) -> tuple[float, ...]:
        """Divisors of frequencies of which the share `kept` stays and the rest is divided by `factor`."""
        return tuple((1 / (kept + (1 - kept) / factor)).tolist())


def _plain(_section: _Section) -> RopeScaling:
    return RopeScaling()


def _linear(section: _Section) -> RopeScaling:
    """Positions divided by a factor (Chen et al., 2023)."""
    return RopeScaling((section.config.positive("factor"),) * (section.dim // 2))


def _llama3(section: _Section) -> RopeScaling:
    """Long waves divided, short ones kept, those between blended by how often they turn (Llama 3.1's model.py)."""
    low, high = section.config.number("low_freq_factor"), section.config.number("high_freq_factor")
    if high <= low:
        raise section.config.wrong("high_freq_factor", f"more than low_freq_factor {low:g}")
    frequencies = section.theta ** -(np.arange(0, section.dim, 2) / section.dim)
    turns = section.original_context * frequencies / (2 * pi)  # within the original context
    return RopeScaling(section.blended(np.clip((turns - low) / (high - low), 0, 1), section.config.positive("factor")))


def _yarn(section: _Section) -> RopeScaling:
    """The same, blended along the pairs' numbers, and all magnified (YaRN, Peng et al. 2023, section 3)."""
    config, factor = section.config, section.factor()

    def pair(turns: float) -> float:
        """The number of the pair that turns so often within the original context."""
        return section.dim * log(section.original_context / (turns * 2 * pi)) / (2 * log(section.theta))

    low, high = pair(config.positive("beta_fast", 32.0)), pair(config.positive("beta_slow", 1.0))
    if config.boolean("truncate", True):
        low, high = floor(low), ceil(high)
    low, high = max(low, 0), min(high, section.dim - 1)
    steps = (np.arange(section.dim // 2) - low) / (high - low if high != low else 0.001)
    return RopeScaling(section.blended(1 - np.clip(steps, 0, 1), factor), _yarn_magnitude(config, factor))


def _yarn_magnitude(config: Config, factor: float) -> float:
    def magnitude(weight: float) -> float:
        return 1 if factor <= 1 else 0.1 * weight * log(factor) + 1

    recommended = magnitude(1)
    # DeepSeek's two weights count only together.
    if all(config.values.get(key) not in (None, 0) for key in ("mscale", "mscale_all_dim")):
        recommended = magnitude(config.positive("mscale")) / magnitude(config.positive("mscale_all_dim"))
    return config.positive("attention_factor", recommended)


def _longrope(section: _Section) -> RopeScaling:
    """Each frequency divided by a number of its own, from one of two lists (LongRoPE, Ding et al. 2024)."""
    factor, original = section.factor(), section.original_context
    magnitude = 1.0 if factor <= 1 else sqrt(1 + log(factor) / log(original))
    return RopeScaling(
        divisors=section.config.numbers("short_factor", section.dim // 2),
        magnitude=section.config.positive("attention_factor", magnitude),
        long_divisors=section.config.numbers("long_factor", section.dim // 2),
        short_context=original,
    )


_LONGROPE_KEYS = frozenset({"factor", "attention_factor", "short_factor", "long_factor", _ORIGINAL})
# Kind to how it is read, and the keys it may have beside the common ones.
_KINDS: Mapping[str, tuple[Callable[[_Section], RopeScaling], frozenset[str]]] = {
    "default": (_plain, frozenset()),
    "none": (_plain, frozenset()),
    "linear": (_linear, frozenset({"factor"})),
    "llama3": (_llama3, frozenset({"factor", "low_freq_factor", "high_freq_factor", _ORIGINAL})),
    "yarn": (
        _yarn,
        frozenset(
            {"factor", "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate", _ORIGINAL}
        ),
    ),
    "longrope": (_longrope, _LONGROPE_KEYS),
    # What the first Phi-3 models called it.
    "su": (_longrope, _LONGROPE_KEYS),
}


def read_rotary(config: Config, head_dim: int, trained_context: int, original_context: int | None = None) -> Rotary:
    """What `config` says of rotary embedding.

    Args:
        head_dim: channels of each head.
        trained_context: tokens the model was trained for.
        original_context: of the family, where the config names none; None is `trained_context`.

    Raises:
        SourceError: a number is missing, of the wrong type, or out of bounds.
        UnsupportedError: the scaling is of an unknown kind, or has a key that none of the known kinds has.
    """
    name = next((name for name in _SECTIONS if config.section(name).values), _SECTIONS[0])
    section = config.section(name)
    kind = section.text("rope_type", section.text("type", "default"))
    if kind not in _KINDS:
        raise UnsupportedError(
            f"{name} asks for rope scaling {kind!r:.80}, which bise does not support yet; expected one of "
            f"{', '.join(_KINDS)}. Export another checkpoint."
        )
    read, keys = _KINDS[kind]
    for key, value in section.values.items():
        if isinstance(value, dict):
            raise UnsupportedError(
                f"{name}: {key!r:.80} asks for rotary embedding that differs by layer, which bise does not support "
                "yet; expected one set of parameters. Export another checkpoint."
            )
        if value is not None and key not in keys | _COMMON_KEYS:
            raise UnsupportedError(
                f"{name}: {key!r:.80} = {value!r:.80} asks for something in rope scaling {kind!r} that bise does not "
                f"support yet; expected only {', '.join(sorted(keys | _COMMON_KEYS))}. Export another checkpoint."
            )
    theta = section.number("rope_theta", config.number("rope_theta", _DEFAULT_THETA))
    part = section.number("partial_rotary_factor", config.number("partial_rotary_factor", 1.0))
    if not 0 < part <= 1:
        raise SourceError(f"partial_rotary_factor: expected more than 0, at most 1, got {part}. Get the file again.")
    if theta <= 1:
        raise SourceError(f"rope_theta: expected more than 1, got {theta}. Get the checkpoint's own file again.")
    # transformers looks beside the section first, too.
    original = config.integer(_ORIGINAL, section.integer(_ORIGINAL, original_context or trained_context))
    if _ORIGINAL in keys and not 2 <= original <= trained_context:
        raise SourceError(f"{_ORIGINAL}: expected 2 to {trained_context}, got {original}. Get the file again.")
    dim = int(head_dim * part)
    known = _Section(section, theta, dim, trained_context, original)
    stretched = int(known.factor() * original) if kind == "yarn" else 0
    return Rotary(theta, dim, read(known), max(trained_context, stretched))
