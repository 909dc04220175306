"""Stored images that the live view shows a second while an arrow key is held.

python benchmarks/scrolling.py RESULTS [--rate 30] [--seconds 6]

RESULTS is the folder of a demo (`gixi-bluesky demo --out RESULTS`). A headless Chromium opens its
newest run and gets an arrow key at the rate asked for, backwards and forwards, twice: first with
nothing in its memory, then with every image there. Prints the images of (|q|, phi) drawn a second.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from gixi_bluesky.tiled_adapters.server.embedded import embedded_server
from gixi_bluesky.web import LiveView, page_address

_SCROLL = """async ([rate, seconds]) => {
  const canvas = document.querySelector('[data-testid=polar-image]');
  const slider = document.querySelector('[data-testid=frame-slider]');
  let drawn = 0, key = 'ArrowLeft';
  const watch = new MutationObserver(() => { drawn += 1; });
  watch.observe(canvas, { attributes: true, attributeFilter: ['data-frame'] });
  const began = performance.now();
  let pressed = 0;
  while (performance.now() - began < seconds * 1000) {
    if (slider.value === '0') key = 'ArrowRight';
    if (slider.value === slider.max) key = 'ArrowLeft';
    document.body.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
    pressed += 1;
    const due = began + (pressed * 1000) / rate;
    await new Promise((go) => setTimeout(go, Math.max(0, due - performance.now())));
    await new Promise(requestAnimationFrame);
  }
  const spent = (performance.now() - began) / 1000;
  watch.disconnect();
  return [pressed / spent, drawn / spent];
}"""


_VISIT_ALL = """async () => {
  const canvas = document.querySelector('[data-testid=polar-image]');
  const slider = document.querySelector('[data-testid=frame-slider]');
  const press = (key) =>
    document.body.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
  press('Home');
  for (let place = 0; place <= Number(slider.max); place++) {
    while (canvas.dataset.frame !== String(place)) await new Promise((go) => setTimeout(go, 5));
    press('ArrowRight');
  }
}"""


def measure(page: Any, name: str, rate: float, seconds: float) -> None:
    """Hold the key and print what was shown."""
    pressed, drawn = page.evaluate(_SCROLL, [rate, seconds])
    load = os.getloadavg()[0]
    print(f"{name}: {pressed:.1f} keys/s, {drawn:.1f} images/s, load {load:.1f}", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--rate", type=float, default=30.0, help="keys a second")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each round")
    args = parser.parse_args()
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        sys.exit("no Chromium here; install the package chromium")
    with embedded_server(args.results, around=LiveView) as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 720})
        page.goto(page_address(server.base, server.api_key))
        page.wait_for_selector("[data-testid=polar-image][data-ready=true]")
        measure(page, "with nothing in memory", args.rate, args.seconds)
        page.evaluate(_VISIT_ALL)
        measure(page, "with every image in memory", args.rate, args.seconds)
        browser.close()


if __name__ == "__main__":
    main()
