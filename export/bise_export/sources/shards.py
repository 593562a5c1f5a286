"""Safetensors weights spread over files, with or without an index that says which lies where."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bise_export.errors import SourceError
from bise_export.sources.json_document import read_json
from bise_export.sources.safetensors import read_safetensors
from bise_export.sources.weight import Weight

_SHOWN = 4


def read_files(files: Iterable[Path]) -> dict[str, Weight]:
    """Every tensor of all `files`, by name.

    Raises:
        SourceError: a file is broken, or a name is in two of them.
        UnsupportedError: a tensor's element type is not read by bise.
    """
    weights: dict[str, Weight] = {}
    for file in files:
        for name, weight in read_safetensors(file).items():
            if name in weights:
                raise SourceError(
                    f"{file}: expected each weight in one file, got {name!r:.80} also in {weights[name].file}. "
                    "Remove the file that does not belong to this checkpoint."
                )
            weights[name] = weight
    return weights


def read_index(index: Path) -> tuple[dict[str, Weight], tuple[Path, ...]]:
    """Every tensor of the files that the `index` names (`weight_map`: tensor to file), and those files.

    Raises:
        SourceError: the index is broken or names a file outside its folder, a file is missing or broken, or a tensor is
            not where the index says.
        UnsupportedError: a tensor's element type is not read by bise.
    """
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise SourceError(f"{index}: weight_map: expected files by tensor, got {weight_map!r:.80}. Get it again.")
    places = {name: _beside(index, file) for name, file in weight_map.items()}
    files = tuple(sorted(set(places.values())))
    if missing := [file.name for file in files if not file.is_file()]:
        raise SourceError(
            f"{index}: expected {len(files)} files beside it, {len(missing)} missing: {', '.join(missing[:_SHOWN])}"
            f"{' …' if len(missing) > _SHOWN else ''}. Get the missing files."
        )
    weights = read_files(files)
    for name, file in places.items():
        if name not in weights or weights[name].file != file:
            raise SourceError(f"{file}: expected the weight {name!r:.80} by {index.name}, got none. Get both again.")
    return weights, files


def _beside(index: Path, file: object) -> Path:
    # Judged by the name, not by where links lead: a snapshot of the Hugging Face cache is all links to its blob store.
    if not isinstance(file, str) or not file.endswith(".safetensors") or "\0" in file or "\\" in file:
        raise SourceError(f"{index}: expected names of .safetensors files, got {file!r:.80}. Get the index again.")
    if Path(file).name != file:
        raise SourceError(f"{index}: expected files in its own folder, got {file!r:.80}. Do not trust this checkpoint.")
    return index.parent / file
