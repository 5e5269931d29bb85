"""A headless Chromium driven over its DevTools pipe: two file descriptors and JSON, no port, no package, nothing to download."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-quic",
    "--no-first-run", "--no-default-browser-check", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-extensions", "--disable-dev-shm-usage", "--hide-scrollbars", "--mute-audio", "--remote-debugging-pipe",
)  # fmt: skip

_LAUNCH = """import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
os.dup2(ends[0], 3), os.dup2(ends[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


def chromium() -> str | None:
    """The program: $CHROMIUM or the first of the usual names; None where there is none."""
    return os.environ.get("CHROMIUM") or next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """One tab. `events` holds what the browser has said on its own, (method, parameters), in order."""

    def __init__(self, into: int, out: int, timeout: float) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self._into, self._out, self._timeout = into, out, timeout
        self._buffer, self._last, self._session = b"", 0, ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command and wait for its answer."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters} | ({"sessionId": self._session} if self._session else {})
        _write(self._into, json.dumps(message).encode() + b"\0")
        answer = self._until(lambda seen: seen.get("id") == self._last, f"an answer to {method}")
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def open(self, url: str) -> None:
        """Go there and wait until everything has loaded. What another page said is forgotten."""
        self.events.clear()
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression, promises awaited."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise RuntimeError(details.get("exception", {}).get("description", details["text"]))
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Until the expression is true."""
        end = time.monotonic() + self._timeout
        while not self.run(f"Boolean({condition})"):
            if time.monotonic() > end:
                raise TimeoutError(f"never true within {self._timeout} s: {condition}")
            time.sleep(0.02)

    def press(self, key: str, code: str = "", **more: Any) -> None:
        """One key, down and up, where the focus is."""
        text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
        number = {"windowsVirtualKeyCode": 13} if key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=code or key, **text, **number, **more)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=code or key, **more)

    def picture(self, path: Path, width: int, height: int, *, whole: bool = False) -> None:
        """A PNG of the window, or of the whole page."""
        self.resize(width, height)
        content = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(content["data"]))

    def resize(self, width: int, height: int) -> None:
        """Give the window that size."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def requests(self) -> list[str]:
        """Addresses of all that the page asked for since `open`."""
        return [values["request"]["url"] for method, values in self.events if method == "Network.requestWillBeSent"]

    def refused(self) -> list[str]:
        """Those of them that the page's policy stopped before they were sent."""
        failed = [values for method, values in self.events if method == "Network.loadingFailed"]
        stopped = {values["requestId"] for values in failed if values.get("blockedReason") == "csp"}
        sent = [values for method, values in self.events if method == "Network.requestWillBeSent"]
        return [values["request"]["url"] for values in sent if values["requestId"] in stopped]

    def complaints(self) -> list[str]:
        """Errors that the browser wrote down: exceptions, refusals by the page's policy, failed loads."""
        thrown = [values["exceptionDetails"]["text"] for method, values in self.events if method == "Runtime.exceptionThrown"]
        logged = [values["entry"] for method, values in self.events if method == "Log.entryAdded"]
        spoken = [values for method, values in self.events if method == "Runtime.consoleAPICalled" and values["type"] == "error"]
        return thrown + [entry["text"] for entry in logged if entry["level"] == "error"] + [json.dumps(values["args"]) for values in spoken]

    def _until(self, wanted: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        end = time.monotonic() + self._timeout
        while True:
            head, zero, rest = self._buffer.partition(b"\0")
            if zero:
                self._buffer = rest
                message = json.loads(head)
                if wanted(message):
                    return message
                if "method" in message:
                    self.events.append((message["method"], message["params"]))
            elif select.select([self._out], [], [], max(end - time.monotonic(), 0))[0]:
                content = os.read(self._out, 1 << 20)
                if not content:
                    raise RuntimeError("the browser has ended")
                self._buffer += content
            else:
                raise TimeoutError(f"no {what} within {self._timeout} s")


@contextmanager
def browse(*flags: str, timeout: float = 60.0) -> Iterator[Page]:
    """A browser of its own with an empty profile, gone afterwards."""
    program = chromium()
    if program is None:
        raise RuntimeError("there is no Chromium here: install one or name it in $CHROMIUM")
    with tempfile.TemporaryDirectory(prefix="structgen-browser-", ignore_cleanup_errors=True) as profile:
        read_by_browser, into = os.pipe()
        out, written_by_browser = os.pipe()
        process = _start([program, *FLAGS, f"--user-data-dir={profile}", *flags], read_by_browser, written_by_browser)
        try:
            yield Page(into, out, timeout)
        finally:
            os.close(into)  # the browser ends when its pipe does
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(out)


def _start(command: Sequence[str], read: int, written: int) -> subprocess.Popen[bytes]:
    """The browser with the two ends as its descriptors 3 and 4, where the DevTools pipe is."""
    words = [sys.executable, "-c", _LAUNCH, str(read), str(written), *command]
    nowhere = subprocess.DEVNULL
    process = subprocess.Popen(words, pass_fds=(read, written), stdin=nowhere, stdout=nowhere, stderr=nowhere)
    os.close(read)
    os.close(written)
    return process


def _write(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]
