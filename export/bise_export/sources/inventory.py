"""Every weight the graph needs, found; every weight the checkpoint holds, used: or the export fails naming it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path

import numpy as np

from bise_export.errors import SourceError
from bise_export.families.storage import Storage
from bise_export.sources.finite import Finite
from bise_export.sources.names import HARMLESS, ROTATED, canonical, layer_of, pattern_of
from bise_export.sources.views import Rows, Shifted
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


def left_out(stored: Mapping[str, Weight], storage: Storage) -> tuple[dict[str, Weight], list[str]]:
    """`stored` without what is no part of the decoder, and a sentence for a person on each kind of that."""
    kept, dropped = dict(stored), dict.fromkeys(storage.left_out.values(), 0)
    for name, weight in stored.items():
        for prefix, what in storage.left_out.items():
            if name.startswith(prefix):
                dropped[what] += prod(kept.pop(name, weight).shape)
    notes = [f"{what} is left out: {count:,} parameters" for what, count in dropped.items() if count]
    return kept, notes


def unpacked(stored: Mapping[str, Weight], storage: Storage, spec: ModelSpec) -> dict[str, Weight]:
    """`stored` (names of a format) less the family's differences: prefixes replaced, fused weights apart, gains whole.

    Raises:
        SourceError: a fused weight has another count of rows than its parts, or a weight is there twice.
    """
    shapes = spec.weight_shapes()
    weights: dict[str, Weight] = {}
    for written, weight in stored.items():
        name = _without_prefix(written, storage.prefixes)
        number = layer_of(name)
        parts = [part.replace("#", number) for part in storage.fused.get(pattern_of(name), ())]
        for part, view in _apart(name, weight, parts, shapes).items():
            if part in weights:
                raise SourceError(
                    f"{weight.file}: expected {part} once, got it again by {written!r:.80}. Get the files again."
                )
            gain = storage.gain_offset and len(view.shape) == 1 and part.endswith("norm.weight")
            weights[part] = Shifted(view, storage.gain_offset) if gain else view
    return weights


def _without_prefix(name: str, prefixes: Mapping[str, str]) -> str:
    for prefix, instead in prefixes.items():
        if name.startswith(prefix):
            return instead + name.removeprefix(prefix)
    return name


def _apart(name: str, weight: Weight, parts: Sequence[str], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Weight]:
    if not parts or not all(part in shapes for part in parts):  # a layer too many is refused later, by its name
        return {name: weight}
    rows = [shapes[part][0] for part in parts]
    if weight.shape[:1] != (sum(rows),):
        raise SourceError(
            f"{weight.file}: {name}: expected {sum(rows)} rows by the config, for {', '.join(parts)}, got shape "
            f"{list(weight.shape)}. Config and weights are not of one model; get both again."
        )
    firsts = [sum(rows[:place]) for place in range(len(rows))]
    return {
        part: Rows(weight, first, (count, *weight.shape[1:]))
        for part, first, count in zip(parts, firsts, rows, strict=True)
    }


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
