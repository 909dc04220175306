"""Take the pictures of docs/live.md from the results of a demo: `live_pictures.py RESULTS`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from gixi_bluesky.tiled_adapters.server.embedded import embedded_server
from gixi_bluesky.web import LiveView, page_address

IMAGES = Path(__file__).parent / "images"
SIZE = {"width": 1280, "height": 720}


def take(results: Path) -> None:
    """Open the newest run of a results folder and save the page in dark and light colours."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        sys.exit("no Chromium here; install the package chromium")
    with embedded_server(results, around=LiveView) as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        address = page_address(server.base, server.api_key)
        save(browser, address, "dark", "Intensity", IMAGES / "live.png")
        save(browser, address, "light", "Peaks", IMAGES / "live-peaks.png")
        browser.close()


def save(browser: Any, address: str, scheme: str, tab: str, target: Path) -> None:
    """Save one picture, with a tab of the curves open and a peak selected."""
    page = browser.new_page(viewport=SIZE, color_scheme=scheme)
    page.goto(address)
    for name in ("q-image", "polar-image", "raw-image"):
        page.wait_for_selector(f"[data-testid={name}][data-ready=true]")
    page.get_by_role("tab", name=tab).click()
    if tab == "Peaks":
        page.get_by_test_id("peak").nth(3).click()
    page.wait_for_timeout(1000)  # the last curves are drawn
    page.screenshot(path=target)
    page.close()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    take(Path(sys.argv[1]))
