"""A checkpoint's config, read key by key with errors a person can act on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bise_export.errors import ExportError, SourceError

_MAX_TOKEN_IDS = 64
# Numbers of models stay far within these; what is computed from some beyond would overflow.
_LARGEST, _SMALLEST = 1e30, 1e-30


@dataclass(frozen=True, slots=True)
class Config:
    """Hugging Face style keys and values, whatever form the checkpoint came in; null and absent are the same.

    Attributes:
        values: the keys; values are untrusted and checked as they are read.
        file: where they came from, for messages.
    """

    values: Mapping[str, object]
    file: Path

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Puts the file's name before what goes wrong inside, so that no reader of a key need know it."""
        try:
            yield
        except ExportError as error:
            raise type(error)(f"{self.file}: {error}") from error

    def has(self, key: str) -> bool:
        """Whether `key` is written at all, null included."""
        return key in self.values

    def integer(self, key: str, default: int | None = None) -> int:
        """The integer at `key`.

        Raises:
            SourceError: it is absent and has no default, or is no integer.
        """
        value = self.optional_integer(key)
        if value is None:
            value = default
        if value is None:
            raise self.wrong(key, "an integer")
        return value

    def optional_integer(self, key: str) -> int | None:
        """The integer at `key`, or None where it is absent.

        Raises:
            SourceError: it is something else.
        """
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.wrong(key, "an integer")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """The number at `key`.

        Raises:
            SourceError: it is absent and has no default, is none, or is larger than any model's.
        """
        value = self.values.get(key)
        if value is None:
            value = default
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
            raise self.wrong(key, "a number")
        return float(value)

    def positive(self, key: str, default: float | None = None) -> float:
        """The number at `key`, which must be more than 0.

        Raises:
            SourceError: it is absent and has no default, or is something else.
        """
        value = self.number(key, default)
        if value < _SMALLEST:
            raise self.wrong(key, "more than 0")
        return value

    def boolean(self, key: str, default: bool) -> bool:
        """The truth value at `key`.

        Raises:
            SourceError: it is something else.
        """
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """The text at `key`.

        Raises:
            SourceError: it is absent and has no default, or is no text.
        """
        value = self.values.get(key)
        if value is None:
            value = default
        if not isinstance(value, str):
            raise self.wrong(key, "text")
        return value

    def sequence(self, key: str) -> list[object]:
        """The list at `key`; its elements are for the caller to check.

        Raises:
            SourceError: it is absent or no list.
        """
        value = self.values.get(key)
        if not isinstance(value, list):
            raise self.wrong(key, "a list")
        return value

    def numbers(self, key: str, count: int) -> tuple[float, ...]:
        """The list of `count` numbers at `key`.

        Raises:
            SourceError: it is absent, something else, or of another length.
        """
        value = self.values.get(key)
        if not isinstance(value, list) or len(value) != count:
            raise self.wrong(key, f"a list of {count} numbers")
        return tuple(Config({key: number}, self.file).number(key) for number in value)

    def section(self, key: str) -> Config:
        """The object at `key`; an empty one where it is absent.

        Raises:
            SourceError: it is something else.
        """
        value = self.values.get(key)
        if value is None:
            return Config({}, self.file)
        if not isinstance(value, dict):
            raise self.wrong(key, "an object")
        return Config(value, self.file)

    def token_ids(self, key: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """The token id or list of token ids at `key`; `default` only where the key is not written.

        Raises:
            SourceError: it is something else, or longer than any real list.
        """
        if not self.has(key):
            return default
        value = self.values[key]
        ids = value if isinstance(value, list) else [] if value is None else [value]
        if len(ids) > _MAX_TOKEN_IDS or not all(isinstance(i, int) and not isinstance(i, bool) for i in ids):
            raise self.wrong(key, f"a token id or a list of at most {_MAX_TOKEN_IDS}")
        return tuple(ids)

    def wrong(self, key: str, expected: str) -> SourceError:
        """The error that says `key` is not as `expected`."""
        got = repr(self.values[key])[:80] if self.has(key) else "nothing"
        return SourceError(f"{key}: expected {expected}, got {got}. Get the checkpoint's own file again.")
