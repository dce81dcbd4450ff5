"""A headless Chromium, spoken to over two pipes in the DevTools protocol: nothing to install but the browser."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # CI runs as root in a container
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--no-first-run",
    "--no-default-browser-check",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--remote-debugging-pipe",
)


def reason_to_skip() -> str | None:
    """Why there is no browser here, or None."""
    return None if _binary() else f"no browser: none of {', '.join(NAMES)} is installed (apt-get install chromium)"


class Browser:
    """One page of a browser.

    Attributes:
        requests: address of every request the page made.
        complaints: what the browser logged: refused resources, errors.
    """

    def __init__(self, process: subprocess.Popen[bytes], into: int, out: int) -> None:
        self._process, self._into, self._out = process, into, out
        self._waiting, self._number, self._session = b"", 0, ""
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._loaded = 0
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime", "DOM", "Accessibility"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._into, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer)
                return dict(answer["result"])
            self._note(answer)

    def open(self, address: str) -> None:
        """Go to a page and wait until it is there."""
        before = self._loaded
        self.call("Page.navigate", url=address)
        self.wait(before)

    def wait(self, before: int) -> None:
        """Wait until one more page than `before` was loaded."""
        while self._loaded == before:
            self._note(self._read())

    @property
    def loaded(self) -> int:
        """Number of pages loaded so far."""
        return self._loaded

    def look(self, width: int, *, dark: bool = False) -> None:
        """Set the width of the window and the colours asked for."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression in the page."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press and release a key."""
        known = {"key": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **known)
        self.call("Input.dispatchKeyEvent", type="keyUp", **known)

    def screenshot(self, path: Path) -> bytes:
        """Save a picture of the whole page."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        data = base64.b64decode(shot["data"])
        path.write_bytes(data)
        return data

    def _read(self) -> dict[str, Any]:
        end = time.monotonic() + 60
        while b"\0" not in self._waiting:
            assert self._process.poll() is None, "the browser ended"
            ready, _, _ = select.select([self._out], [], [], max(0.0, end - time.monotonic()))
            assert ready, "the browser does not answer"
            self._waiting += os.read(self._out, 1 << 20)
        text, _, self._waiting = self._waiting.partition(b"\0")
        return dict(json.loads(text))

    def _note(self, event: dict[str, Any]) -> None:
        method, parameters = event.get("method"), event.get("params", {})
        if method == "Page.loadEventFired":
            self._loaded += 1
        elif method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif method == "Log.entryAdded":
            self.complaints.append(parameters["entry"]["text"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(parameters))


@contextlib.contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A browser with an empty profile in `folder`."""
    binary = _binary()
    assert binary is not None
    to_read, into = os.pipe()
    out, to_write = os.pipe()
    # High numbers, so that the shell can put them at 3 and 4, where the browser looks.
    theirs = [fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (to_read, to_write)]
    command = f'exec "$0" "$@" 3<&{theirs[0]} 4>&{theirs[1]}'
    flags = [*_FLAGS, f"--user-data-dir={folder}/profile", "about:blank"]
    with (folder / "browser.log").open("wb") as log:
        process = subprocess.Popen(["/bin/bash", "-c", command, binary, *flags], pass_fds=theirs, stdout=log, stderr=log)
    for end in (to_read, to_write, *theirs):
        os.close(end)
    try:
        yield Browser(process, into, out)
    finally:
        os.close(into)
        os.close(out)
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _binary() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)
