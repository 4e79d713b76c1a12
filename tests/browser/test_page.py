"""The page of a report in a real browser: it works, is quick, accessible, and runs nothing hostile.

Needs Chromium, and npm for axe-core, which is fetched once. `make browser` runs these tests; it
leaves pictures of the page in the folder that the variable PICTURES names.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast
from urllib.parse import quote

import pytest

from snapfarm.report import html
from snapfarm.report.model import write_text
from support import chromium
from support.chromium import Chromium, Page
from support.report_model import HOSTILE, fixed, hostile, large

INSTALL = "on Debian and Ubuntu: apt-get install chromium npm"

pytestmark = pytest.mark.skipif(
    chromium.find() is None, reason=f"THE PAGE IS NOT TESTED, there is no Chromium; {INSTALL}"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium.start(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    models = {
        "fixed": fixed(),
        "hostile": hostile(),
        "middle": large(400, 30, workers=4),
        "large": large(10_000, 200),
    }
    for name, report in models.items():
        write_text(html.page(report), folder / f"{name}.html")
    return {name: folder / f"{name}.html" for name in models}


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core, from the npm registry."""
    if shutil.which("npm") is None:
        pytest.skip(f"ACCESSIBILITY IS NOT TESTED, there is no npm; {INSTALL}")
    cache = Path(__file__).parents[2] / ".farm" / "axe"
    cache.mkdir(parents=True, exist_ok=True)
    if not (packed := list(cache.glob("axe-core-*.tgz"))):
        done = subprocess.run(
            ["npm", "pack", "--silent", "axe-core@4"], cwd=cache, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        packed = list(cache.glob("axe-core-*.tgz"))
    with tarfile.open(fileobj=io.BytesIO(packed[0].read_bytes())) as archive:
        member = archive.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode()


#: Milliseconds until another filter is shown.
_FILTERING = """
(() => {
  const search = document.getElementById("search"), began = performance.now();
  search.value = "module_1";
  search.dispatchEvent(new Event("input"));
  document.body.offsetHeight;
  return performance.now() - began;
})()
"""


def opened(browser: Chromium, file: Path, fragment: str = "", **options: object) -> Page:
    return browser.open(file.as_uri() + fragment, **options)  # type: ignore[arg-type]  # as open's


def shown(page: Page) -> str:
    return str(page.run("document.getElementById('shown').textContent"))


def headline(page: Page) -> str:
    """The test whose details are shown."""
    return str(page.run("document.querySelector('#detail h3').textContent"))


def fill(page: Page, text: str) -> None:
    page.run("(it => { it.focus(); it.value = ''; })(document.getElementById('search'))")
    page.call("Input.insertText", text=text)


def fine(page: Page, file: Path) -> None:
    """Nothing went wrong, and nothing but the page itself was asked for."""
    assert page.complaints == []
    asked = {url.partition("#")[0] for url in page.requests if not url.startswith("data:")}
    assert asked == {file.as_uri()}
    assert page.run("window.hacked") is None


def test_tests_are_filtered_by_name_and_outcome_and_found_by_link(
    browser: Chromium, pages: dict[str, Path]
) -> None:
    page = opened(browser, pages["fixed"])
    assert shown(page) == "6 tests"
    assert headline(page) == "tests/test_shop.py::test_kills"  # the worst first
    fill(page, "STOCK gw0")
    assert shown(page) == "1 of 6 tests"
    fill(page, "")
    page.run("document.querySelector('#chips [data-state=flaky]').click()")
    assert shown(page) == "1 of 6 tests"
    assert page.run("document.querySelector('#chips [data-state=flaky]').ariaPressed") == "true"
    page.run("document.querySelector('#spacer .row').click()")
    link = "#test=" + quote("tests/test_shop.py::test_stock[a|b]", safe="")
    assert str(page.run("location.hash")).lower() == link.lower()
    fine(page, pages["fixed"])

    again = opened(browser, pages["fixed"], "#test=" + quote("tests/test_shop.py::test_price"))
    assert headline(again) == "tests/test_shop.py::test_price"
    text = str(again.run("document.getElementById('detail').textContent"))
    assert "farm run -n 1 tests/test_shop.py::test_price" in text
    assert "leaked-transaction" in text
    assert "customer: 1 added, 1 removed, 31 changed" in text
    cells = again.run(
        "[...document.querySelectorAll('#detail .rows tbody tr')].map(row => "
        "[row.className, ...[...row.cells].map(cell => cell.textContent)])"
    )
    assert cells == [
        ["removed", "\N{MINUS SIGN}", "7", "Hopper", "NULL"],
        ["added", "+", "9", "<b>Grace</b>", "2.5"],
        ["changed", "~", "8", "Ada → <b>Grace</b>", "x'00ff'"],
    ]
    assert again.run("document.querySelector('#detail b')") is None
    fine(again, pages["fixed"])


def test_the_list_and_the_timeline_obey_the_keyboard(
    browser: Chromium, pages: dict[str, Path]
) -> None:
    page = opened(browser, pages["middle"])
    page.press("/")
    assert page.run("document.activeElement.id") == "search"
    page.run("document.getElementById('list').focus()")
    first = headline(page)
    page.press("ArrowDown")
    assert headline(page) != first
    page.press("End")
    assert page.run("document.getElementById('list').scrollTop") != 0
    active = str(page.run("document.getElementById('list').getAttribute('aria-activedescendant')"))
    assert page.run(f"document.getElementById('{active}').ariaSelected") == "true"
    page.run("document.getElementById('lanes').focus()")
    page.press("+")
    page.press("+")
    begin, end = map(float, str(page.run("document.getElementById('lanes').dataset.range")).split())
    total = float(str(page.run("JSON.parse(document.getElementById('data').textContent).seconds")))
    assert end - begin == pytest.approx(total / 4, rel=0.01)
    page.press("ArrowRight")
    moved, _ = map(float, str(page.run("document.getElementById('lanes').dataset.range")).split())
    assert moved > begin
    page.run("document.getElementById('zoom-all').click()")
    assert page.run("document.getElementById('lanes').dataset.range") == f"0.0000 {total:.4f}"
    fine(page, pages["middle"])


def test_the_timeline_tells_what_is_under_the_pointer_and_leads_to_it(
    browser: Chromium, pages: dict[str, Path]
) -> None:
    page = opened(browser, pages["fixed"])
    box = cast(
        "dict[str, float]",
        page.run(
            "document.getElementById('lanes').scrollIntoView(), "
            "document.getElementById('lanes').getBoundingClientRect().toJSON()"
        ),
    )
    # test_stock runs on gw0 from 4.5 s to 6.5 s of 12.5 s.
    x = box["x"] + 64 + (box["width"] - 72) * 5.5 / 12.5
    y = box["y"] + 26 + 14
    for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
        page.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
    said = "test_stock[a|b], flaky, 2.0 s"
    page.wait(f"document.getElementById('hover').textContent.includes('{said}')")
    assert headline(page) == "tests/test_shop.py::test_stock[a|b]"
    fine(page, pages["fixed"])


def test_the_colours_follow_the_system_until_somebody_chooses(
    browser: Chromium, pages: dict[str, Path]
) -> None:
    page = opened(browser, pages["fixed"], scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.run(background) == "rgb(20, 23, 27)"
    page.prefer("light")
    page.wait(f"{background} === 'rgb(255, 255, 255)'")
    for expected in ("light", "dark", "auto"):
        page.run("document.getElementById('theme').click()")
        said = page.run("document.getElementById('theme').textContent")
        assert said == f"Colours: {expected}"
    fine(page, pages["fixed"])


def test_nothing_hostile_runs(browser: Chromium, pages: dict[str, Path]) -> None:
    page = opened(browser, pages["hostile"])
    assert shown(page) == f"{6 + len(HOSTILE)} tests"
    for number in range(len(HOSTILE)):
        fill(page, f"test_{number}[")
        page.run("document.querySelector('#spacer .row').click()")
        assert headline(page).startswith(f"tests/test_evil.py::test_{number}[")
        page.run("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    assert page.run("document.querySelectorAll('img, svg [onload], b b').length") == 0
    page.run("dispatchEvent(new Event('beforeprint'))")
    assert page.run("document.querySelectorAll('.print-item').length") == 4 + len(HOSTILE)
    fine(page, pages["hostile"])


def test_a_page_without_tests_and_one_without_scripts_work(
    browser: Chromium, tmp_path: Path, pages: dict[str, Path]
) -> None:
    empty = fixed()
    empty.items, empty.workers, empty.anomalies = [], {}, []
    write_text(html.page(empty), tmp_path / "empty.html")
    fine(opened(browser, tmp_path / "empty.html"), tmp_path / "empty.html")
    page = opened(browser, pages["fixed"])
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    page.call("Page.reload")
    page.wait("document.body?.innerText.includes('With scripts switched off')")
    assert "tests/test_shop.py::test_kills" in str(page.run("document.body.innerText"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 768, 1280])
def test_it_is_accessible_and_fits(
    browser: Chromium, pages: dict[str, Path], axe: str, width: int, scheme: str
) -> None:
    for name in ("fixed", "middle"):
        page = opened(browser, pages[name], width=width, scheme=scheme)
        assert page.run("document.documentElement.scrollWidth") == width
        page.run(axe + "; 0")
        found = page.run(
            "axe.run(document, {resultTypes: ['violations']}).then(found => found.violations.map("
            "each => each.id + ': ' + each.nodes.map(node => node.html).slice(0, 3).join(' | ')))"
        )
        assert found == []
        fine(page, pages[name])
        if folder := os.environ.get("PICTURES"):
            page.screenshot(Path(folder) / f"{name}-{width}-{scheme}.png")


def test_ten_thousand_tests_and_two_hundred_runs(browser: Chromium, pages: dict[str, Path]) -> None:
    assert pages["large"].stat().st_size < 10_000_000
    began = time.perf_counter()
    page = opened(browser, pages["large"])
    fill(page, "area_7")
    assert shown(page) == "400 of 10000 tests"
    spent = time.perf_counter() - began
    # What the page itself took, apart from the browser's own start and this machine's load.
    own = float(str(page.run("performance.now()")))
    filtering = float(str(page.run(_FILTERING)))
    print(f"opened and filtered in {spent:.2f} s ({own / 1000:.2f}), again in {filtering:.0f} ms")
    assert spent < 10
    assert filtering < 500
    fine(page, pages["large"])
