"""A headless Chromium, driven by Playwright; and a folder, served to it."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastlic.errors import optional

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")


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


class Chromium:
    """One page of one browser: this machine's, or else the one that ``playwright install chromium`` fetches.

    Args:
        patience: seconds after which an answer is no longer awaited.
    """

    def __init__(self, patience: float = 120):
        self.errors: list[str] = []  # what the page wrote to its console as errors, or did not catch
        self._milliseconds = 1000 * patience
        self._playwright: Any = optional("playwright.sync_api", "bench").sync_playwright().start()
        try:
            browser = self._playwright.chromium.launch(executable_path=program(), chromium_sandbox=False)
        except BaseException:
            self._playwright.stop()
            raise
        self._devtools, self._page = browser.new_browser_cdp_session(), browser.new_page()
        self._page.set_default_timeout(self._milliseconds)
        self._page.on("pageerror", lambda error: self.errors.append(str(error)))
        self._page.on("console", self._note)

    def _note(self, said: Any) -> None:
        if said.type == "error":
            self.errors.append(said.text)

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, *_: object) -> None:
        self._page.context.browser.close()
        self._playwright.stop()

    def open(self, url: str) -> None:
        """Waits until the page has loaded."""
        self._page.goto(url)

    def evaluate(self, script: str) -> Any:
        """What an async function with this body returns; Playwright's ``Error`` if it throws or takes too long."""
        late = f"new Promise((_, no) => setTimeout(() => no(new Error('no answer')), {self._milliseconds}))"
        return self._page.evaluate(f"() => Promise.race([(async () => {{ {script} }})(), {late}])")

    def cpu_seconds(self) -> float:
        """CPU time that the browser's processes have taken so far."""
        processes = self._devtools.send("SystemInfo.getProcessInfo")["processInfo"]
        return float(sum(process["cpuTime"] for process in processes))

    def resize(self, width: int, height: int) -> None:
        self._page.set_viewport_size({"width": width, "height": height})

    def screenshot(self, path: Path) -> None:
        """A PNG of the whole page."""
        self._page.screenshot(path=path, full_page=True)
