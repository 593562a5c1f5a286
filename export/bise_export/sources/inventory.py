"""Every weight the graph needs, found; every weight the checkpoint holds, used: or the export fails naming it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bise_export.errors import SourceError
from bise_export.sources.finite import Finite
from bise_export.sources.names import HARMLESS, ROTATED, canonical, pattern_of
from bise_export.sources.weight import HalfRotation, Weight
from bise_export.spec import ModelSpec

_EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"
_COMPARED_ROWS = 1024


def renamed(stored: Mapping[str, Weight], table: Mapping[str, str]) -> dict[str, Weight]:
    """`stored` by canonical names, less the buffers known to be harmless.

    Raises:
        SourceError: `table` does not know a weight's name.
    """
    weights: dict[str, Weight] = {}
    for name, weight in stored.items():
        known = canonical(name, table)
        if known is not None:
            weights[known] = weight
        elif pattern_of(name) not in HARMLESS:
            raise _unused(weight, name, "a weight of this kind of checkpoint")
    return weights


def half_rotated(stored: Mapping[str, Weight], head_dim: int) -> dict[str, Weight]:
    """`stored` (canonical names) with q and k, which lie there for interleaved RoPE, read as for half rotation."""
    return {
        name: HalfRotation(weight, head_dim) if pattern_of(name) in ROTATED else weight
        for name, weight in stored.items()
    }


def take_inventory(spec: ModelSpec, stored: Mapping[str, Weight], source: Path) -> dict[str, Weight]:
    """Exactly the weights of `spec.weight_shapes()`, in its order, each proved finite as it is read.

    A head beside tied embeddings is dropped if it equals them, as transformers does; rows are compared to find out.

    Raises:
        SourceError: a weight is missing, has another shape, is not used, or is a head unlike the tied embeddings.
    """
    shapes = spec.weight_shapes()
    for name, shape in shapes.items():
        if name not in stored:
            raise SourceError(
                f"{source}: expected a weight {name} of shape {list(shape)}, got none. "
                "Get the checkpoint's missing files, or its own config."
            )
        if stored[name].shape != shape:
            raise SourceError(
                f"{stored[name].file}: {name}: expected shape {list(shape)} by the config, "
                f"got {list(stored[name].shape)}. Config and weights are not of one model; get both again."
            )
    extra = {name: weight for name, weight in stored.items() if name not in shapes}
    if spec.tied_embeddings and _HEAD in extra:
        _check_tied(stored[_EMBEDDING], extra.pop(_HEAD))
    for name, weight in extra.items():
        raise _unused(weight, name, f"a weight of a model with {spec.num_layers} layers")
    return {name: Finite(stored[name], name) for name in shapes}


def _unused(weight: Weight, name: str, expected: str) -> SourceError:
    return SourceError(
        f"{weight.file}: {name!r:.80}: expected {expected}, got shape {list(weight.shape)} under a name bise does not "
        "know. It would be left out of the bundle; export a checkpoint without it."
    )


def _check_tied(embedding: Weight, head: Weight) -> None:
    same = head.shape == embedding.shape and all(
        np.array_equal(embedding.rows(start, stop), head.rows(start, stop), equal_nan=True)
        for start in range(0, head.shape[0], _COMPARED_ROWS)
        for stop in [min(start + _COMPARED_ROWS, head.shape[0])]
    )
    if not same:
        raise SourceError(
            f"{head.file}: {_HEAD}: expected the numbers of {_EMBEDDING}, as the config ties the two, got others. "
            "If the head is meant, set tie_word_embeddings to false in config.json."
        )
