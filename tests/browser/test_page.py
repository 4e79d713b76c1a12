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


def box_of(page: Page, element: str) -> dict[str, float]:
    """Scroll to an element, and return where it is."""
    return cast(
        "dict[str, float]",
        page.run(
            f"{element}.scrollIntoView({{block: 'center'}}), "
            f"{element}.getBoundingClientRect().toJSON()"
        ),
    )


def click(page: Page, element: str) -> None:
    """Click as a person does: a script may not copy by itself."""
    box = box_of(page, element)
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    for kind in ("mousePressed", "mouseReleased"):
        page.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)


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
    assert "farm replay 0a1b2c3d:tests/test_shop.py::test_price" in text
    assert "farm run -n 1 tests/test_shop.py::test_price" in text
    assert "order-dependent, victim (confidence: high)" in text
    assert "3 of 6 attempts failed (95 %: 19 to 81 %)" in text
    assert "Writes to default.customer, default.<i>price" in text
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
    box = box_of(page, "document.getElementById('lanes')")
    # test_stock runs on gw0 from 4.5 s to 6.5 s of 12.5 s.
    x = box["x"] + 64 + (box["width"] - 72) * 5.5 / 12.5
    y = box["y"] + 26 + 14
    for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
        page.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
    said = "test_stock[a|b], flaky, 2.0 s"
    page.wait(f"document.getElementById('hover').textContent.includes('{said}')")
    assert headline(page) == "tests/test_shop.py::test_stock[a|b]"
    fine(page, pages["fixed"])


@pytest.mark.parametrize(
    ("seconds", "lane", "said"),
    [
        (0.3, 0, ": start, 400 ms"),
        (0.56, 0, ": broadcast, 125 ms"),
        (0.7, 0, ": restore, 125 ms"),
        (1.2, 0, ": collection, 1.0 s"),
        (9.0, 0, ": idle"),
        (3.3, 1, ": tests/test_shop.py::test_kills, crashed, 500 ms"),
        (9.0, 1, ": its process has ended: signal SIGKILL in the call of"),
        (0.04, 1, ": not there yet"),
    ],
)
def test_the_timeline_has_all_that_a_worker_does(
    browser: Chromium, pages: dict[str, Path], seconds: float, lane: int, said: str
) -> None:
    page = opened(browser, pages["fixed"])
    box = box_of(page, "document.getElementById('lanes')")
    x = box["x"] + 64 + (box["width"] - 72) * seconds / 12.5
    y = box["y"] + 26 + 28 * lane + 14
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    hover = "document.getElementById('hover').textContent"
    page.wait(f"{hover}.startsWith('gw{lane} at ') && {hover}.includes({said!r})")
    fine(page, pages["fixed"])


def test_the_history_is_read_with_the_keyboard_and_in_a_table(
    browser: Chromium, pages: dict[str, Path]
) -> None:
    page = opened(browser, pages["fixed"])
    page.run("document.getElementById('heat').focus()")
    hover = "document.getElementById('heat-hover').textContent"
    page.press("ArrowLeft")
    assert str(page.run(hover)).startswith("tests/test_shop.py::test_setup: failed in run 0a1b2c05")
    page.press("ArrowLeft")
    said = str(page.run(hover))
    assert said.startswith("tests/test_shop.py::test_setup: passed in run 0a1b2c04")
    assert said.endswith("commit 4444444444")
    page.press("ArrowDown")
    page.press("Home")
    assert "test_price: passed in run 0a1b2c00" in str(page.run(hover))
    page.press("Enter")
    assert headline(page) == "tests/test_shop.py::test_price"
    rows = page.run(
        "[...document.querySelectorAll('#troubled tbody tr')].map(row => "
        "[...row.cells].slice(0, 3).map(cell => cell.textContent))"
    )
    assert rows == [
        ["tests/test_shop.py::test_setup", "4 failed, 2 passed", ""],
        [
            "tests/test_shop.py::test_price",
            "3 passed, 3 failed",
            "3 of 6 attempts failed (95 %: 19 to 81 %)",
        ],
        [
            "tests/test_shop.py::test_stock[a|b]",
            "3 passed, 3 flaky",
            "3 of 9 attempts failed (95 %: 12 to 65 %)",
        ],
        ["tests/test_shop.py::test_kills", "2 not there, 2 passed, 2 crashed", ""],
    ]
    fine(page, pages["fixed"])


def test_a_command_is_copied_with_a_clipboard_and_without(
    browser: Chromium, pages: dict[str, Path]
) -> None:
    wanted = "farm replay 0a1b2c3d:tests/test_shop.py::test_kills"
    page = opened(browser, pages["fixed"])
    page.run(
        "window.copied = ''; document.addEventListener('copy', () => "
        "{ window.copied = document.activeElement.value; })"
    )
    button = "document.querySelector('#detail .command button')"
    # Whoever may not write to the clipboard copies as in old times.
    page.run("navigator.clipboard.writeText = () => Promise.reject(new Error('denied'))")
    click(page, button)
    page.wait(f"{button}.textContent === 'Copied'")
    assert page.run("window.copied") == wanted
    assert page.run("document.querySelector('body > textarea')") is None
    fine(page, pages["fixed"])

    browser.call(
        "Browser.grantPermissions",
        {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]},
    )
    page = opened(browser, pages["fixed"])
    page.call("Page.bringToFront")
    click(page, button)
    page.wait(f"{button}.textContent === 'Copied'")
    assert page.run("navigator.clipboard.readText()") == wanted
    fine(page, pages["fixed"])


def test_it_prints_what_failed_with_all_details_on_white(
    browser: Chromium, pages: dict[str, Path]
) -> None:
    page = opened(browser, pages["fixed"], scheme="dark")
    pdf = page.call("Page.printToPDF", preferCSSPageSize=True, printBackground=True)
    assert str(pdf["data"]).startswith("JVBERi")  # %PDF
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    page.call("Emulation.setEmulatedMedia", media="print", features=dark)
    page.run("dispatchEvent(new Event('beforeprint'))")
    assert page.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.run("document.documentElement.dataset.theme") == "light"
    text = str(page.run("document.body.innerText"))
    for name in ("test_kills", "test_price", "test_setup", "test_stock[a|b]"):
        assert f"farm replay {'' if '[' not in name else chr(39)}0a1b2c3d:tests" in text
        assert f"tests/test_shop.py::{name}" in text
    # Nothing that matters is closed, cut or out of sight.
    for part in ("last words", "a <warning>", "INSERT INTO customer", "Hopper", "shop.py:3"):
        assert part in text, part
    gone = "header, #list, #detail, #search, .chips, .buttons, .command button"
    assert page.run(
        f"[...document.querySelectorAll({gone!r})].filter(each => each.offsetParent).length"
    ) == 0  # fmt: skip
    assert page.run(
        "[...document.querySelectorAll('#print pre')].filter("
        "each => each.scrollHeight > each.clientHeight + 1).length"
    ) == 0  # fmt: skip
    assert page.run("getComputedStyle(document.querySelector('.print-item')).breakInside") in {
        "avoid",
        "avoid-page",
    }
    page.run("dispatchEvent(new Event('afterprint'))")
    assert page.run("document.documentElement.dataset.theme") == "dark"
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
