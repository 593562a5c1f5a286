"""JSON files of a checkpoint, read with a bound on their size."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

from bise_export.errors import SourceError

_LIMIT_BYTES = 16 << 20
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def read_json(path: Path, limit_bytes: int = _LIMIT_BYTES) -> dict[str, object]:
    """The JSON object in the file at `path`.

    Raises:
        SourceError: it can't be read, is larger than `limit_bytes`, or holds no JSON object.
    """
    try:
        size_bytes = path.stat().st_size
        if size_bytes > limit_bytes:
            raise SourceError(f"{path}: expected at most {limit_bytes} bytes, got {size_bytes}. Get the file again.")
        return parse_json(path.read_bytes(), str(path))
    except OSError as error:
        raise SourceError(f"{path}: {error}. Check that the file is there and readable.") from error


def parse_json(data: bytes, where: str) -> dict[str, object]:
    """The JSON object in `data`; `where` it came from is for messages.

    Raises:
        SourceError: it is no JSON object, names a key twice, or holds half a character.
    """
    try:
        value = json.loads(data, object_pairs_hook=_unique)
        if _SURROGATE.search(data):
            json.dumps(value, ensure_ascii=False).encode()  # half a character could be written nowhere
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{where}: expected JSON, got {error!s:.300}. Get the file again.") from error
    if not isinstance(value, dict):
        raise SourceError(f"{where}: expected a JSON object, got {type(value).__name__}. Get the file again.")
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) != len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise ValueError(f"the key {next(key for key, count in counts.items() if count > 1)!r:.80} twice")
    return values
