"""`python -m tests.bench.promises WORD…`: measures the promises with one of these words in their names, and no others.

Their rows in results/promises.json are replaced, the others stay; all anew where those were taken on another machine.
"""

from __future__ import annotations

import json
import sys

from tests.bench.__main__ import RESULTS
from tests.bench.promises import table
from tests.bench.rounds import machine


def main(words: list[str]) -> None:
    """Measures what the words name; the table prints each row as it comes."""
    names = [name for name in table.MEASURES if any(word in name for word in words)]
    if not names:
        sys.exit(f"promises: expected words of these names: {'; '.join(table.MEASURES)}. Got {words}.")
    path = RESULTS / "promises.json"
    former = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    result = table.run(names, former if former.get("machine") == machine() else None)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
