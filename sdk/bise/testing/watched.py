"""A value others can wait on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

import grpc

T = TypeVar("T")


class Watched(Generic[T]):
    """A value that may be set from any thread, and followed by calls until their client leaves."""

    def __init__(self, value: T) -> None:
        self._changed = threading.Condition()
        self._value = value
        self._version = 0

    def get(self) -> T:
        """The value now."""
        with self._changed:
            return self._value

    def set(self, value: T) -> None:
        """Changes the value and tells those who follow it."""
        with self._changed:
            self._value = value
            self._version += 1
            self._changed.notify_all()

    def follow(self, context: grpc.ServicerContext, every_s: float | None = None) -> Iterator[T]:
        """The value now, at each change, and again after `every_s` seconds without one, until the call ends."""
        if not context.add_callback(self._wake):
            return
        seen = -1
        while context.is_active():
            with self._changed:
                changed = self._changed.wait_for(
                    lambda: self._version != seen or not context.is_active(),  # noqa: B023 - called here and now
                    every_s,
                )
                value, seen = self._value, self._version
            if context.is_active() and (changed or every_s is not None):
                yield value

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()
