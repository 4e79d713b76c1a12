"""Makes report.png, the picture of a report in docs/reports.md, from the model that tests use.

    .venv/bin/python docs/images/make_report.py

Needs Chromium.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

_HERE = Path(__file__).parent
sys.path.insert(0, str(_HERE.parents[1] / "tests"))

from snapfarm.report import html  # noqa: E402  # its place is after the folder too
from support.chromium import Chromium  # noqa: E402  # found in the folder that was added
from support.report_model import fixed, large  # noqa: E402  # as above


def main() -> None:
    """Write the picture."""
    report = large(600, 40, workers=4, seed=3)
    small = fixed("Grace")
    report.items += small.items
    report.anomalies += small.anomalies
    report.verdicts += small.verdicts
    report.history.outcomes["tests/test_shop.py::test_price"] = "p" * 30 + "fppfpppfpf"
    link = "#test=" + quote("tests/test_shop.py::test_price", safe="")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "report.html")
        file.write_text(html.page(report), "utf-8")
        with Chromium.start(Path(folder, "profile")) as browser:
            page = browser.open(file.as_uri() + link, width=1100)
            page.resize(1100, 900)
            page.run("scrollTo(0, 0)")
            page.screenshot(_HERE / "report.png", whole=False)


if __name__ == "__main__":
    main()
