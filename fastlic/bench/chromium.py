"""A headless Chromium, driven through the two pipes of its DevTools protocol; and a folder, served to it."""

from __future__ import annotations

import base64
import fcntl
import functools
import http.server
import json
import os
import select
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")


def program() -> str | None:
    """The browser of this machine."""
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


class _Handler(http.server.SimpleHTTPRequestHandler):
    def guess_type(self, path: str | os.PathLike[str]) -> str:
        own = {".mjs": "text/javascript", ".js": "text/javascript", ".wasm": "application/wasm"}
        return own.get(Path(path).suffix) or super().guess_type(path)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The URL of a folder on this machine, without a slash at its end."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, directory=os.fspath(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def _description(details: dict[str, Any]) -> str:
    """Of what a page threw."""
    return details.get("exception", {}).get("description") or details["text"]


class Chromium:
    """One page of one browser. ``patience``: seconds after which an answer is no longer awaited."""

    def __init__(self, patience: float = 120):
        path = program()
        if path is None:
            raise FileNotFoundError(f"none of {', '.join(PROGRAMS)} is installed")
        self.patience = patience
        self.errors: list[str] = []  # what the page wrote to its console as errors, or did not catch
        self._profile = tempfile.TemporaryDirectory(prefix="fastlic-chromium-", ignore_cleanup_errors=True)
        (theirs, self._to), (self._from, back) = self._pipe(), self._pipe()

        def wire() -> None:  # the protocol's pipes are 3 and 4
            os.dup2(theirs, 3)
            os.dup2(back, 4)

        self._process = subprocess.Popen(
            [path, *FLAGS, "--remote-debugging-pipe", f"--user-data-dir={self._profile.name}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            close_fds=False,
            preexec_fn=wire,
        )
        os.close(theirs)
        os.close(back)
        self._buffer = b""
        self._id = 0
        self._session: dict[str, str] = {}
        target = next(t for t in self._call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        attached = self._call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Runtime", "Log"):
            self._call(f"{domain}.enable")

    @staticmethod
    def _pipe() -> tuple[int, int]:
        """Two ends that keep clear of 3 and 4, and are not inherited unless wired."""
        ends = os.pipe()
        high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
        for end in ends:
            os.close(end)
        return high[0], high[1]

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._to)
        os.close(self._from)
        self._profile.cleanup()

    def _message(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The next message that is wanted; errors of the page are noted on the way."""
        until = time.monotonic() + self.patience
        while True:
            while b"\0" not in self._buffer:
                if not select.select([self._from], [], [], max(until - time.monotonic(), 0))[0]:
                    raise TimeoutError(f"chromium gave no answer in {self.patience:g} s; page errors: {self.errors}")
                piece = os.read(self._from, 1 << 16)
                if not piece:
                    raise RuntimeError("chromium has ended")
                self._buffer += piece
            text, _, self._buffer = self._buffer.partition(b"\0")
            message = json.loads(text)
            params = message.get("params", {})
            if message.get("method") == "Runtime.exceptionThrown":
                self.errors.append(_description(params["exceptionDetails"]))
            elif message.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
                self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}".strip())
            if wanted(message):
                return message

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._id += 1
        command = {"id": self._id, "method": method, "params": params, **self._session}
        os.write(self._to, json.dumps(command).encode() + b"\0")
        message = self._message(lambda message: message.get("id") == self._id)
        if "error" in message:
            raise RuntimeError(f"{method}: {message['error']['message']}")
        return message["result"]

    def open(self, url: str) -> None:
        """Waits until the page has loaded."""
        self._call("Page.navigate", url=url)
        self._message(lambda message: message.get("method") == "Page.loadEventFired")

    def evaluate(self, script: str) -> Any:
        """What an async function with this body returns; a RuntimeError if it throws."""
        body = f"(async () => {{ {script} }})()"
        answer = self._call("Runtime.evaluate", expression=body, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(_description(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def cpu_seconds(self) -> float:
        """CPU time that the browser's processes have taken so far, in steps of a hundredth or so."""
        own, parents, ticks = {self._process.pid}, {}, {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:  # it has ended
                continue
            pid = int(stat.parent.name)
            parents[pid], ticks[pid] = int(fields[1]), int(fields[11]) + int(fields[12])
        while more := {pid for pid, parent in parents.items() if parent in own} - own:
            own |= more
        return sum(ticks.get(pid, 0) for pid in own) / os.sysconf("SC_CLK_TCK")

    def resize(self, width: int, height: int, dark: bool = False) -> None:
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path: Path, whole: bool = True) -> None:
        """A PNG of the page, or of what is in view."""
        image = self._call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(image["data"]))
