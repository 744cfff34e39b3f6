"""A headless Chromium, driven over a pipe by the DevTools protocol: nothing has to be installed."""

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE = 60.0  # seconds that a command may take
_SWITCHES = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--disable-gpu",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
)
# The protocol is spoken over the files 3 (commands) and 4 (answers); what is there makes way first.
_LAUNCH = """
import fcntl, os, sys
commands, answers = (fcntl.fcntl(int(file), fcntl.F_DUPFD, 10) for file in sys.argv[1:3])
os.dup2(commands, 3)
os.dup2(answers, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


def find() -> str | None:
    """The path of a Chromium on this machine, if there is one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """A page in a Chromium of its own, which ends with the `with` block."""

    def __init__(self, url: str, *, offline: bool = False, dark: bool = False) -> None:
        """Opens it. OSError if there is no Chromium; TimeoutError if it does not load."""
        path = find()
        if path is None:
            raise OSError(f"no Chromium is found; looked for: {', '.join(NAMES)}")
        self._ids = itertools.count(1)
        self.events: list[dict[str, Any]] = []
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        switches = [*_SWITCHES, f"--user-data-dir={self._folder.name}"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            switches.append("--no-sandbox")  # which root cannot have
        launch = [sys.executable, "-c", _LAUNCH, str(theirs_in), str(theirs_out)]
        self._process = subprocess.Popen(
            [*launch, path, *switches, "about:blank"],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._out, self._in = ours_out, ours_in
        os.set_blocking(ours_out, False)  # a write that is stuck would have no end
        self._session: str | None = None
        self._buffer = b""
        try:
            attach = {"targetId": self._first_page(), "flatten": True}
            self._session = self.call("Target.attachToTarget", **attach)["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.call(f"{domain}.enable")
            if offline:
                conditions = {"latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
                self.call("Network.emulateNetworkConditions", offline=True, **conditions)
            scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
            self.call("Emulation.setEmulatedMedia", features=[scheme])
            self.call("Page.navigate", url=url)
            self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Page":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the browser."""
        self._process.kill()
        self._process.wait()
        for file in (self._out, self._in):
            os.close(file)
        self._folder.cleanup()

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of a command. Events are kept in `events`.

        RuntimeError if it fails; TimeoutError if it takes more than PATIENCE.
        """
        until = time.monotonic() + PATIENCE
        message: dict[str, Any] = {"id": next(self._ids), "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            self._await(until, method, writing=True)
            data = data[os.write(self._out, data) :]
        while True:
            answer = self._read(until, method)
            if answer.get("id") == message["id"]:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self.events.append(answer)

    def _first_page(self) -> str:
        """The target that it opens with, which it may not have yet when it first answers."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            for info in self.call("Target.getTargets")["targetInfos"]:
                if info["type"] == "page":
                    return info["targetId"]
            time.sleep(0.02)
        raise TimeoutError(f"Chromium has opened no page after {PATIENCE} s")

    def _await(self, until: float, method: str, *, writing: bool = False) -> None:
        """Returns once the pipe can be read, or written."""
        files = ([], [self._out], []) if writing else ([self._in], [], [])
        if not any(select.select(*files, max(0, until - time.monotonic()))):
            raise TimeoutError(f"{method} after {PATIENCE} s")

    def _read(self, until: float, method: str) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            self._await(until, method)
            chunk = os.read(self._in, 1 << 20)
            if not chunk:
                raise RuntimeError("Chromium has ended")
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def evaluate(self, code: str) -> Any:
        """The value of an expression, awaited; RuntimeError with what it throws."""
        options = {"returnByValue": True, "awaitPromise": True}
        result = self.call("Runtime.evaluate", expression=code, **options)
        if "exceptionDetails" in result:
            raise RuntimeError(json.dumps(result["exceptionDetails"]["exception"]))
        return result["result"].get("value")

    def wait(self, condition: str, seconds: float = 30) -> None:
        """Returns once an expression is true; TimeoutError if it does not become so."""
        until = time.monotonic() + seconds
        while not self.evaluate(f"Boolean({condition})"):
            if time.monotonic() > until:
                raise TimeoutError(f"{condition} after {seconds} s")
            time.sleep(0.02)

    def resize(self, width: int, height: int, *, mobile: bool = False) -> None:
        """Sets the size of the window, in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=mobile,
        )

    def screenshot(self, path: Path, *, whole: bool = False) -> Path:
        """Writes a PNG of the window, or of the whole page."""
        options = {"captureBeyondViewport": whole}
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", **options)["data"]))
        return path
