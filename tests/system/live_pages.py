"""The live view in a real browser: Debian's Chromium, driven by playwright."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from debian_packages import require_program
from PIL import Image

__all__ = ["LivePage", "chromium", "spread"]

# What a browser says by itself while a server is away; not an error of the page.
_AWAY = (
    "ERR_CONNECTION",
    "ERR_EMPTY_RESPONSE",
    "WebSocket connection to",
    "ERR_INCOMPLETE",
    "ERR_SOCKET",
)


class LivePage:
    """A tab with the live view, and all that went wrong in it."""

    def __init__(self, page: Any) -> None:
        self.page = page
        page.set_default_timeout(180_000)
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._note)
        page.on("request", self._check_host)

    def open(self, address: str) -> LivePage:
        self.page.goto(address)
        self._origin = address.partition("/gixi/")[0]
        return self

    def all(self, testid: str) -> Any:
        return self.page.get_by_test_id(testid)

    def run(self, uid: str) -> Any:
        return self.page.locator(f"[data-testid=run][data-uid='{uid}']")

    def until(self, holds: Callable[[], Any], timeout_s: float = 180) -> None:
        """Wait for a condition. Fails with what the page shows."""
        deadline = time.monotonic() + timeout_s
        while not holds():
            if time.monotonic() > deadline:
                pytest.fail(f"{self.page.locator('body').inner_text()}\n{self.errors}")
            self.page.wait_for_timeout(50)

    def _note(self, message: Any) -> None:
        if message.type == "error" and not any(word in message.text for word in _AWAY):
            self.errors.append(message.text)

    def _check_host(self, request: Any) -> None:
        inside = request.url.startswith((self._origin, "blob:", "data:"))
        if not inside:
            self.errors.append(f"asked another host: {request.url}")

    _origin = "http"


def spread(locator: Any) -> float:
    """Return the standard deviation of the grey values that an element shows."""
    return float(np.asarray(Image.open(io.BytesIO(locator.screenshot())).convert("L")).std())


@contextmanager
def chromium() -> Iterator[Any]:
    """Yield a headless browser; skips where there is none and none can be installed."""
    program = require_program("chromium", "chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox"], timeout=180_000
        )
        yield browser
        browser.close()
