"""Drives a Chromium through its debugging pipe: enough to open a page, ask it things and take its picture."""

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Chromium speaks on descriptors 3 and 4: the child puts its ends of the two pipes there.
LAUNCH = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for end, number in zip(ends, (3, 4)):
    os.dup2(end, number)
os.execv(sys.argv[3], sys.argv[3:])
"""


def chromium() -> str | None:
    """The path of an installed Chromium."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """One tab; `events` are all that it reported."""

    def __init__(self, send: IO[bytes], receive: IO[bytes]) -> None:
        self._send, self._receive, self._number, self._session = send, receive, 0, ""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        message |= {"sessionId": self._session} if self._session else {}
        self._send.write(json.dumps(message).encode() + b"\0")
        self._send.flush()
        while (summary := self._read()).get("id") != self._number:
            self.events.append(summary)
        if "error" in summary:
            raise RuntimeError(f"{method}: {summary['error']}")
        return dict(summary["result"])

    def _read(self) -> dict[str, Any]:
        line = bytearray()
        while (byte := self._receive.read(1)) != b"\0":
            if not byte:
                raise RuntimeError("the browser went away")
            line += byte
        return dict(json.loads(line))

    def open(self, path: Path, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Open a file in a window of this size and wait until it is drawn."""
        self.events.clear()
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        self.call("Page.navigate", url=path.resolve().as_uri())
        ready = (
            "new Promise(r => { const f = () => document.readyState === 'complete' && location.href !== 'about:blank' "
        )
        self.evaluate(ready + "? requestAnimationFrame(() => r(1)) : setTimeout(f, 20); f(); })")

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        summary = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in summary:
            raise RuntimeError(summary["exceptionDetails"])
        return summary["result"].get("value")

    def click(self, x: float, y: float) -> None:
        """Move the mouse there and press its left button once."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def picture(self, full: bool = True) -> bytes:
        """A PNG of the window, or of the whole page."""
        return base64.b64decode(
            self.call("Page.captureScreenshot", format="png", captureBeyondViewport=full, **self._clip(full))["data"]
        )

    def _clip(self, full: bool) -> Mapping[str, Any]:
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {**size, "scale": 1}} if full else {}

    def complaints(self) -> list[str]:
        """Errors, warnings and uncaught exceptions of the page so far."""
        self.call("Runtime.evaluate", expression="0")
        kinds = ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled")
        return [json.dumps(e["params"]) for e in self.events if e.get("method") in kinds]

    def requests(self) -> list[str]:
        """Addresses the page asked for, embedded ones left out."""
        asked = [e["params"]["request"]["url"] for e in self.events if e.get("method") == "Network.requestWillBeSent"]
        return [url for url in asked if not url.startswith("data:")]


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """A headless Chromium with an empty profile; closed at the end."""
    path = chromium()
    if path is None:
        raise RuntimeError("no Chromium is installed")
    (child_in, ours_out), (ours_in, child_out) = os.pipe(), os.pipe()
    flags = ["--headless=new", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage"]
    flags += [f"--user-data-dir={profile}", "--hide-scrollbars"] + (["--no-sandbox"] if os.geteuid() == 0 else [])
    launch = [sys.executable, "-c", LAUNCH, str(child_in), str(child_out), path, *flags]
    process = subprocess.Popen(
        launch, pass_fds=(child_in, child_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    os.close(child_in)
    os.close(child_out)
    with os.fdopen(ours_out, "wb") as send, os.fdopen(ours_in, "rb") as receive:
        try:
            page = Page(send, receive)
            yield page
            page._session = ""
            page.call("Browser.close")
        finally:
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
