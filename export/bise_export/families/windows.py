"""Which layers see everything, and which only a window, as `layer_types` says it."""

from __future__ import annotations

from bise_export.errors import UnsupportedError
from bise_export.families.config import Config

_FULL, _SLIDING = "full_attention", "sliding_attention"


def full_layers(config: Config, layers: int, unwritten: tuple[int, ...]) -> tuple[int, ...]:
    """The layers that see everything.

    Args:
        layers: how many there are.
        unwritten: those of the family where the config does not say.

    Raises:
        SourceError: there is not one type a layer.
        UnsupportedError: a type is of another kind of attention.
    """
    if config.values.get("layer_types") is None:
        return unwritten
    types = config.sequence("layer_types")
    if len(types) != layers:
        raise config.wrong("layer_types", f"{layers} types, one a layer")
    for kind in types:
        if kind not in (_FULL, _SLIDING):
            raise UnsupportedError(
                f"layer_types: {kind!r:.80} asks for a kind of attention that bise does not support yet; expected "
                f"{_FULL} or {_SLIDING}. Export another checkpoint."
            )
    return tuple(layer for layer, kind in enumerate(types) if kind == _FULL)
