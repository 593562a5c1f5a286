"""`python -m tests.monitoring` writes what deploy/monitoring has of the daemon's table of metrics."""

from __future__ import annotations

import json
from pathlib import Path

from tests.monitoring import dashboard, page

FOLDER = Path(__file__).parents[2] / "deploy" / "monitoring"


def main() -> None:
    """Writes the dashboard, and the table of the page."""
    (FOLDER / "dashboard.json").write_text(json.dumps(dashboard.dashboard(), indent=1) + "\n", encoding="utf-8")
    readme = FOLDER / "README.md"
    readme.write_text(page.rendered(readme.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
