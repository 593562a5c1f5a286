"""How the daemon's log is written: for a person, for systemd's journal, or for programs."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal, TextIO

LogFormat = Literal["auto", "plain", "journal", "json"]

_PLAIN = "%(asctime)s %(levelname)s %(name)s: %(message)s"
# sd-daemon(3): syslog's priorities.
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (0, 7))
FIELDS = "fields"
"""A record's attribute (`extra={FIELDS: …}`) with what programs read as values of their own."""


class JournalFormatter(logging.Formatter):
    """Lines with their priority before them; the journal has the time. A traceback's lines have it each."""

    def __init__(self) -> None:
        super().__init__("%(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """The record as lines."""
        priority = next(number for level, number in _PRIORITIES if record.levelno >= level)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines())


class JsonFormatter(logging.Formatter):
    """One object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON, in ASCII."""
        fields: Mapping[str, object] = getattr(record, FIELDS, {})
        told = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **fields,
        }
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps(told, default=str)


def make_formatter(log_format: LogFormat, stream: TextIO, environ: Mapping[str, str] = os.environ) -> logging.Formatter:
    """What writes in a format; `auto` is the journal's if the stream ends there, else plain."""
    if log_format == "json":
        return JsonFormatter()
    if log_format == "journal" or (log_format == "auto" and _ends_in_journal(stream, environ)):
        return JournalFormatter()
    return logging.Formatter(_PLAIN)


def set_log_format(log_format: LogFormat) -> None:
    """Has all loggers of this process write so to stderr."""
    for handler in logging.getLogger().handlers:
        handler.setFormatter(make_formatter(log_format, sys.stderr))


def _ends_in_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """By systemd.exec(5): $JOURNAL_STREAM names the stream's device and inode."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
