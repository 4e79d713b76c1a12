"""A headless Chromium, driven over two pipes by its own protocol; nothing else is needed.

    with Chromium.start(profile) as chromium:
        page = chromium.open(file.as_uri(), width=1280)
        page.run("document.title")

A page remembers what went wrong in it: errors, refused scripts, and each request but for itself.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-extensions", "--hide-scrollbars", "--remote-debugging-pipe",
    "--disable-dev-shm-usage", "--force-device-scale-factor=1",
)  # fmt: skip
_PATIENCE = 60.0

Reply = dict[str, object]


def find() -> str | None:
    """Return the browser's path, or None where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


class BrowserError(AssertionError):
    """The browser, or the page in it, did not do what it was told to."""


class Page:
    """One page; `complaints` says what went wrong in it."""

    def __init__(self, chromium: Chromium, session: str) -> None:
        self._chromium = chromium
        self._session = session
        self.complaints: list[str] = []
        self.requests: list[str] = []

    def call(self, method: str, **parameters: object) -> Reply:
        """Call a method of the protocol."""
        return self._chromium.call(method, parameters, self._session)

    def run(self, expression: str) -> object:
        """Return the value of an expression, awaited; it has to be data."""
        reply = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in reply:
            raise BrowserError(f"{expression[:200]}: {json.dumps(reply['exceptionDetails'])[:800]}")
        return cast("Reply", reply["result"]).get("value")

    def wait(self, expression: str) -> None:
        """Wait until an expression is true."""
        until = time.monotonic() + _PATIENCE
        while not self.run(f"Boolean({expression})"):
            if time.monotonic() > until:
                raise BrowserError(f"never became true: {expression}")

    def press(self, key: str) -> None:
        """Press and release a key."""
        for kind in ("keyDown", "keyUp"):
            text = key if len(key) == 1 and kind == "keyDown" else ""
            self.call("Input.dispatchKeyEvent", type=kind, key=key, text=text)

    def resize(self, width: int, height: int = 900) -> None:
        """Give the page another size."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def prefer(self, scheme: str) -> None:
        """Let the system prefer "light" or "dark"."""
        self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )

    def screenshot(self, file: Path, *, whole: bool = True) -> None:
        """Write a picture of the whole page, or of what is in view."""
        reply = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(base64.b64decode(str(reply["data"])))

    def told(self, event: str, parameters: Reply) -> None:
        """Note an event of the page."""
        if event == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(parameters)[:800])
        elif event == "Log.entryAdded":
            self.complaints.append(str(cast("Reply", parameters["entry"])["text"]))
        elif event == "Runtime.consoleAPICalled" and parameters["type"] in {"error", "warning"}:
            self.complaints.append(json.dumps(parameters["args"])[:800])
        elif event == "Network.requestWillBeSent":
            self.requests.append(str(cast("Reply", parameters["request"])["url"]))
        elif event == "Page.javascriptDialogOpening":
            self.complaints.append(f"a dialog: {parameters['message']}")


class Chromium:
    """The browser."""

    def __init__(self, orders: int, answers: int) -> None:
        self._orders, self._answers = orders, answers
        self._received = b""
        self._last = 0
        self._pages: dict[str, Page] = {}

    @classmethod
    @contextlib.contextmanager
    def start(cls, profile: Path) -> Iterator[Chromium]:
        """Start a browser with a new profile, and end it."""
        path = find()
        if path is None:
            raise BrowserError("there is no Chromium here")
        theirs_in, orders = _high_pipe()
        answers, theirs_out = _high_pipe()
        process = os.posix_spawn(
            path,
            [path, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_DUP2, 1, 2),
                (os.POSIX_SPAWN_DUP2, theirs_in, 3),
                (os.POSIX_SPAWN_DUP2, theirs_out, 4),
            ],
            setsid=True,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        try:
            yield cls(orders, answers)
        finally:
            os.close(orders)
            os.close(answers)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process, signal.SIGKILL)
            os.waitpid(process, 0)

    def open(self, url: str, *, width: int = 1280, scheme: str = "light") -> Page:
        """Open a page, and wait until its script has done its work."""
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        attached = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})
        page = Page(self, str(attached["sessionId"]))
        self._pages[str(attached["sessionId"])] = page
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        page.resize(width)
        page.prefer(scheme)
        page.call("Page.navigate", url=url)
        page.wait("document.documentElement?.dataset.ready")
        return page

    def call(self, method: str, parameters: Reply, session: str = "") -> Reply:
        """Call a method of the protocol, and return its result."""
        self._last += 1
        order: Reply = {"id": self._last, "method": method, "params": parameters}
        if session:
            order["sessionId"] = session
        data = json.dumps(order).encode() + b"\0"
        while data:
            data = data[os.write(self._orders, data) :]
        while True:
            reply = self._next(method)
            if reply.get("id") == self._last:
                if "error" in reply:
                    raise BrowserError(f"{method}: {reply['error']}")
                return cast("Reply", reply["result"])
            page = self._pages.get(str(reply.get("sessionId")))
            if page is not None and "method" in reply:
                page.told(str(reply["method"]), cast("Reply", reply["params"]))

    def _next(self, method: str) -> Reply:
        until = time.monotonic() + _PATIENCE
        while b"\0" not in self._received:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, until - time.monotonic()))
            data = os.read(self._answers, 1 << 20) if ready else b""
            if not data:
                raise BrowserError(f"the browser did not answer {method}")
            self._received += data
        message, _, self._received = self._received.partition(b"\0")
        return cast("Reply", json.loads(message))


def _high_pipe() -> tuple[int, int]:
    """Return a pipe whose numbers are none that the browser will give another meaning."""
    ends = os.pipe()
    high = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20) for end in ends)
    for end in ends:
        os.close(end)
    return high[0], high[1]
