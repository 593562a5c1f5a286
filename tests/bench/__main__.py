"""`python -m tests.bench [NAME]…`: measures, prints tables, writes results/NAME.json; `BENCHES` has the names.

`python -m tests.bench show NAME…` prints what is kept in results/NAME.json, and measures nothing.
"""

from __future__ import annotations

import importlib
import json
import sys

from tests.bench.tables import RESULTS, show

BENCHES = {
    "attention": "tests.bench.attention",
    "decode": "tests.bench.decode",
    "client": "tests.bench.client",
    "converse": "tests.bench.converse",
    "constrained": "tests.bench.constrained",
    "quality": "tests.bench.quality",
    "promises": "tests.bench.promises.table",
}


def main(names: list[str]) -> None:
    """Runs the benches named, or all; or shows results."""
    if names[:1] == ["show"]:
        for name in names[1:]:
            show(name, json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8")))
        return
    if unknown := set(names) - set(BENCHES):
        sys.exit(f"bench: expected some of {', '.join(BENCHES)}; got {', '.join(sorted(unknown))}")
    for name in names or BENCHES:
        result = importlib.import_module(BENCHES[name]).run()
        show(name, result)
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
