"""What can go wrong in an export, as the person at the prompt reads it."""

from __future__ import annotations


class ExportError(ValueError):
    """The export can't go on; the message names the file or tensor, what was expected, what was found, what to do."""


class SourceError(ExportError):
    """The checkpoint is missing, broken, or of a kind bise does not read."""


class UnsupportedError(ExportError):
    """The checkpoint is sound, but asks for something bise does not do yet; the message names it."""
