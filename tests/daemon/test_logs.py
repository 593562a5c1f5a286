"""How the log is written."""

from __future__ import annotations

import json
import logging
import os
import sys
from io import StringIO
from pathlib import Path

import pytest

from bise_daemon.logs import FIELDS, JournalFormatter, JsonFormatter, make_formatter


def record(
    level: int = logging.INFO, message: str = "it is %s", *arguments: object, **more: object
) -> logging.LogRecord:
    made = logging.LogRecord("bise_daemon.x", level, "x.py", 1, message, arguments, None)
    made.__dict__ |= more
    return made


@pytest.mark.parametrize(
    ("level", "priority"),
    [(logging.DEBUG, 7), (logging.INFO, 6), (logging.WARNING, 4), (logging.ERROR, 3), (logging.CRITICAL, 2), (5, 7)],
)
def test_the_journal_hears_a_priority(level: int, priority: int) -> None:
    assert JournalFormatter().format(record(level, "it is %s", "so")) == f"<{priority}>bise_daemon.x: it is so"


def test_every_line_of_a_traceback_has_it() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        made = record(logging.ERROR, "broke", exc_info=sys.exc_info())
    lines = JournalFormatter().format(made).splitlines()
    assert len(lines) >= 4
    assert all(line.startswith("<3>") for line in lines)


def test_programs_get_an_object_a_line() -> None:
    made = record(logging.INFO, "it is\n%s", "só", **{FIELDS: {"request_id": "r1", "total_ms": 1.5}})
    line = JsonFormatter().format(made)
    assert line.isascii()
    assert "\n" not in line
    told = json.loads(line)
    assert told.pop("time").endswith("+00:00")
    assert told == {
        "level": "info",
        "logger": "bise_daemon.x",
        "message": "it is\nsó",
        "request_id": "r1",
        "total_ms": 1.5,
    }


def test_auto_is_the_journals_where_the_stream_ends_there(tmp_path: Path) -> None:
    with (tmp_path / "stream").open("w") as stream, (tmp_path / "other").open("w") as other:
        status = os.fstat(stream.fileno())
        environ = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert isinstance(make_formatter("auto", stream, environ), JournalFormatter)
        for formatter in (
            make_formatter("auto", other, environ),
            make_formatter("auto", StringIO(), environ),
            make_formatter("auto", stream, {}),
            make_formatter("plain", stream, environ),
        ):
            assert type(formatter) is logging.Formatter
        assert isinstance(make_formatter("journal", other, {}), JournalFormatter)
        assert isinstance(make_formatter("json", stream, environ), JsonFormatter)
