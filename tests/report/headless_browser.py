"""Drives a headless Chromium through its debugging pipe: opens a page, evaluates JavaScript, takes screenshots."""

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
# Chromium's debugging pipes are descriptors 3 and 4: the child moves its ends of the two pipes there.
LAUNCH = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for end, number in zip(ends, (3, 4)):
    os.dup2(end, number)
os.execv(sys.argv[3], sys.argv[3:])
"""


def chromium() -> str | None:
    """Return the path of an installed Chromium, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """One browser tab; `events` are all events that it sent since the last `open`."""

    def __init__(self, send: IO[bytes], receive: IO[bytes]) -> None:
        self._send, self._receive, self._number, self._session = send, receive, 0, ""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command of the DevTools protocol and wait for its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        message |= {"sessionId": self._session} if self._session else {}
        self._send.write(json.dumps(message).encode() + b"\0")
        self._send.flush()
        while (message := self._read()).get("id") != self._number:
            self.events.append(message)
        if "error" in message:
            raise RuntimeError(f"{method}: {message['error']}")
        return dict(message["result"])

    def _read(self) -> dict[str, Any]:
        line = bytearray()
        while (byte := self._receive.read(1)) != b"\0":
            if not byte:
                raise RuntimeError("the browser closed the pipe")
            line += byte
        return dict(json.loads(line))

    def open(self, path: Path, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Open a file in a window of this size (pixels) and wait until it is drawn."""
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
        """Return the value of a JavaScript expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def click(self, x: float, y: float) -> None:
        """Click with the left mouse button at a position in the window."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screenshot(self, full: bool = True) -> bytes:
        """Take a PNG of the whole page, or of the window only."""
        return base64.b64decode(
            self.call("Page.captureScreenshot", format="png", captureBeyondViewport=full, **self._clip(full))["data"]
        )

    def _clip(self, full: bool) -> Mapping[str, Any]:
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {**size, "scale": 1}} if full else {}

    def console_messages(self) -> list[str]:
        """Return errors, warnings and uncaught exceptions of the page so far."""
        self.call("Runtime.evaluate", expression="0")
        kinds = ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled")
        return [json.dumps(e["params"]) for e in self.events if e.get("method") in kinds]

    def requests(self) -> list[str]:
        """Return the addresses that the page requested, without embedded data."""
        urls = [e["params"]["request"]["url"] for e in self.events if e.get("method") == "Network.requestWillBeSent"]
        return [url for url in urls if not url.startswith("data:")]


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """Start a headless Chromium with an empty profile and close it at the end."""
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
