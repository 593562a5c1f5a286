"""Headers that are nobody else's business, from a file."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

_MAX_BYTES = 16 << 10
# By RFC 9110: a token, and visible text.
_LINE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([\x20-\x7e]+)")


def read_headers(path: Path) -> dict[str, str]:
    """The headers in a file of `name: value` lines; empty lines and `#` lines are none.

    Raises:
        ValueError: others may read it, or a line is no header; no message tells what a line holds.
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & stat.S_IROTH:
            raise ValueError(f"expected a file that others can't read, got one they can. Run chmod o-r {path}.")
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise ValueError(f"expected at most {_MAX_BYTES} bytes of headers, got more. Is {path} the right file?")
    headers = {}
    for number, line in enumerate(content.decode("utf-8", errors="replace").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if (found := _LINE.fullmatch(line.rstrip())) is None:
            raise ValueError(f"expected `name: value` in line {number} of {path}, got something else. Mend the line.")
        headers[found[1]] = found[2]
    return headers
