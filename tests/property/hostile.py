"""Files as an enemy would change them: cuts, flips, counts and lengths out of all proportion, JSON that explodes.

Hypothesis draws the changes from a fixed seed, so each run sees the same ones, and shrinks those that break something.
"""

from __future__ import annotations

import json
import resource
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

FUZZ = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
"""Bounded and the same in each run; time is bounded by `survives`, in CPU seconds that neighbours don't change."""

_MOST_BYTES = 64 << 20
_ROOM_BYTES = 1 << 30
_MOST_CPU_S = 5.0
_COUNTS = (0, 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63, 2**64 - 1)
_MARK = "\u2603"
_SNIPPETS = (
    "null", "true", "false", "0", "-0", "-1", "1", "2147483648", "4294967296", "9007199254740993",
    "9223372036854775808", "18446744073709551616", "-9223372036854775809", "1" + "0" * 400, "9" * 5000,
    "0.5", "-0.5", "1e308", "-1e308", "1e400", "5e-324", "NaN", "Infinity", "-Infinity", '"NaN"', '"Infinity"',
    '""', '" "', '"\\u0000"', '"a\\nb"', '"\\ud800"', '"../../secret"', '"/dev/zero"', '"."', '"' + "a" * 70_000 + '"',
    "[]", "{}", "[[]]", '[{}]', '{"": []}', '{"a": {"a": {"a": {}}}}', "[" + "0," * 20_000 + "0]",
    "[" * 400 + "]" * 400, "[" * 100_000, '{"a":' * 400 + "0" + "}" * 400, '{"a": 1, "a": 2}',
)  # fmt: skip


def survives(parse: Callable[[], object], *refusals: type[Exception]) -> None:
    """Runs `parse`, which may end well or with one of `refusals`, in bounded memory and time; all else is a bug."""
    tracemalloc.start()
    began_s = time.process_time()
    try:
        with _room():
            parse()
    except refusals as refusal:
        assert len(str(refusal)) < 4_000, "a refusal that repeats all it was given"  # noqa: PT017
        str(refusal).encode("utf-8")  # as it is printed
    finally:
        took_s = time.process_time() - began_s
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak_bytes < _MOST_BYTES, f"{peak_bytes} bytes"
    assert took_s < _MOST_CPU_S, f"{took_s} s"


@contextmanager
def _room() -> Iterator[None]:
    """Ends what would take the machine's memory, libraries' own included, in a MemoryError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    size_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size_bytes + _ROOM_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@st.composite
def changed_bytes(draw: st.DrawFn, valid: bytes, within: int | None = None, words: Sequence[bytes] = ()) -> bytes:
    """A file with some bytes changed, cut out, doubled, or overwritten by counts.

    Args:
        within: the first bytes, where changes begin; all if not given.
        words: to be put in, such as a language's own.
    """
    content = bytearray(valid)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, min(len(content), within or len(content)) - 1)))
        match draw(st.sampled_from(("flip", "cut", "drop", "double", "count", "bytes", "word"))):
            case "flip" if content:
                content[place] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del content[place:]
            case "drop":
                del content[place : place + draw(st.integers(1, 64))]
            case "double":
                content[place:place] = content[place : place + draw(st.integers(1, 64))]
            case "count":
                width = draw(st.sampled_from((1, 2, 4, 8)))
                count = draw(st.sampled_from(_COUNTS)) % (1 << 8 * width)
                content[place : place + width] = count.to_bytes(width, "little")
            case "bytes":
                content[place:place] = draw(st.binary(max_size=16))
            case "word" if words:
                content[place:place] = draw(st.sampled_from(words))
    return bytes(content)


@st.composite
def changed_json(draw: st.DrawFn, valid: bytes) -> bytes:
    """A JSON document with values replaced by others of every type and size, entries left out, added or doubled."""
    document = json.loads(valid)
    texts = []
    for _ in range(draw(st.integers(1, 3))):
        snippet = draw(st.sampled_from(_SNIPPETS))
        document = _changed(draw, document, f"{_MARK}{len(texts)}")
        texts.append(snippet)
    text = json.dumps(document, ensure_ascii=False)
    for place, snippet in enumerate(texts):
        text = text.replace(f'"{_MARK}{place}"', snippet)
    return text.encode("utf-8")


def hostile_json(valid: bytes) -> st.SearchStrategy[bytes]:
    """A JSON file changed in its values, or in its bytes."""
    return changed_json(valid) | changed_bytes(valid)


def _changed(draw: st.DrawFn, value: Any, mark: str) -> Any:
    """`value` with a mark somewhere: as often near the root as deep down, however many leaves there are."""
    if not isinstance(value, dict | list) or not value or draw(st.integers(0, 4)) == 0:
        return mark
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = keys[draw(st.integers(0, len(keys) - 1))]
    match draw(st.sampled_from(("deeper", "deeper", "deeper", "without", "more"))):
        case "without":
            del value[key]
        case "more" if isinstance(value, dict):
            value[draw(st.sampled_from(("", "more", "__metadata__", mark)))] = mark
        case "more":
            value.append(mark)
        case _:
            value[key] = _changed(draw, value[key], mark)
    return value
