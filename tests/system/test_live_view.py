"""The live view in a browser: rows appear, come back after a loss, and stay text."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live_pages import LivePage, chromium, spread
from served import KEY, Server
from tiled_servers import PEAKS_PER_FRAME, RunWriting, start_document

from gixi_bluesky.web import page_address, viewing_key

pytestmark = [pytest.mark.system, pytest.mark.server]

FRAMES = 6
HOSTILE = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as one:
        yield one


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    one = Server(tmp_path_factory.mktemp("live"))
    one.start()
    yield one
    one.close()


@pytest.fixture
def tab(browser: Any, server: Server) -> Iterator[LivePage]:
    context = browser.new_context(viewport={"width": 1280, "height": 720})
    page = LivePage(context.new_page()).open(address(server))
    yield page
    context.close()
    assert page.errors == []


def address(server: Server) -> str:
    return page_address(server.uri.removesuffix("/api/v1"), KEY)


def writing(server: Server, **more: Any) -> RunWriting:
    return RunWriting(server.catalog("gixi"), server.directory, start_document(**more))


def slider_end(tab: LivePage) -> int:
    return int(tab.all("frame-slider").get_attribute("max") or 0)


def test_an_empty_server_says_what_to_do(browser, tmp_path):
    server = Server(tmp_path)  # its own: no other test may have written a run to it
    context = browser.new_context(viewport={"width": 1280, "height": 720})
    try:
        server.start()
        tab = LivePage(context.new_page()).open(address(server))
        check_empty_page(tab)
        assert tab.errors == []
    finally:
        context.close()
        server.close()


def check_empty_page(tab: LivePage) -> None:
    tab.until(lambda: "No runs yet" in tab.page.inner_text("body"))
    assert "gixi-bluesky demo --live" in tab.page.inner_text("body")
    assert KEY not in tab.page.url
    assert viewing_key(KEY) not in tab.page.url  # the key left the address
    (cookie,) = [c for c in tab.page.context.cookies() if c["name"].startswith("gixi_session")]
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    tab.page.reload()
    tab.until(lambda: "No runs yet" in tab.page.inner_text("body"))


def test_rows_appear_while_a_run_is_measured_and_it_ends(tab, server):
    run = writing(server, sample_name="growing", plan_name="count")
    tab.until(lambda: tab.run(run.uid).count() == 1)
    tab.until(lambda: tab.run(run.uid).get_by_test_id("state").inner_text() == "live")
    run.flush([0, 1])
    tab.until(lambda: tab.all("peak").count() == PEAKS_PER_FRAME)
    tab.until(lambda: slider_end(tab) == 1)
    run.flush([2])
    tab.until(lambda: slider_end(tab) == 2)
    tab.until(lambda: tab.all("health").get_attribute("data-connection") == "live")
    probability = tab.page.locator("[data-testid=phase][data-phase=phase-1]")
    tab.until(lambda: probability.get_attribute("data-probability") == "2.010000")
    for image in ("polar-image", "q-image"):
        tab.until(lambda name=image: tab.all(name).get_attribute("data-ready") == "true")
    assert tab.all("raw-image").get_attribute("data-ready") == "false"  # no raw run here
    run.stop(n_frames=3, n_peaks=9, completeness="incomplete")
    tab.until(lambda: tab.run(run.uid).get_by_test_id("state").inner_text() == "incomplete")
    # An older frame, by keyboard; its peak's row is shown.
    tab.page.keyboard.press("Home")
    tab.until(lambda: tab.all("frame-slider").input_value() == "0")
    tab.all("peak").nth(1).click()
    tab.until(lambda: "|q|" in tab.all("peak-detail").inner_text())
    tab.until(lambda: tab.all("peak").nth(1).get_attribute("aria-selected") == "true")
    # What is drawn is not black: the images and the curves.
    for name in ("polar-image", "q-image", "timeline"):
        tab.until(lambda name=name: spread(tab.all(name)) > 8)


def test_metadata_is_shown_as_text(tab, server):
    run = writing(server, sample_name=HOSTILE, plan_name="<b>plan</b>")
    run.flush([0])
    tab.until(lambda: HOSTILE in tab.run(run.uid).inner_text())
    tab.until(lambda: tab.all("peak").count() > 0)
    assert tab.page.evaluate("window.hacked") is None
    assert tab.page.locator("img, script:not([src])").count() == 0
    tab.page.get_by_placeholder("Sample, phase").fill("<script>window")
    tab.until(lambda: tab.all("run").count() == 1)
    run.stop(n_frames=1)


def test_a_viewer_without_rights_sees_nothing_and_can_sign_in(browser, server):
    run = writing(server, sample_name="confidential")
    run.stop(n_frames=0)
    context = browser.new_context()
    page = LivePage(context.new_page()).open(f"{address(server).partition('#')[0]}#key={'0' * 16}")
    page.until(lambda: page.all("sign-in").count() == 1)
    assert page.all("run").count() == 0
    assert "confidential" not in page.page.content()
    page.page.get_by_label("API key").fill(KEY)
    page.page.get_by_role("button", name="Sign in").click()
    page.until(lambda: page.run(run.uid).count() == 1)
    context.close()
    assert all("401" in error for error in page.errors)


def test_two_tabs_lose_and_double_nothing_when_the_server_is_killed(tab, server):
    run = writing(server, sample_name="interrupted")
    run.flush([0])
    other = LivePage(tab.page.context.new_page()).open(address(server).partition("#")[0])
    for one in (tab, other):
        one.until(lambda one=one: one.run(run.uid).count() == 1)
        one.until(lambda one=one: one.all("peak").count() == PEAKS_PER_FRAME)
    server.kill()
    tab.until(lambda: "No connection" in tab.page.inner_text("[role=alert]"))
    server.start()
    run.abandon()
    resumed = RunWriting(server.catalog("gixi"), server.directory, start_document(run.uid))
    resumed.flush([1, 2])
    for one in (tab, other):
        one.until(lambda one=one: slider_end(one) == 2)
        one.until(lambda one=one: one.page.get_by_role("alert").count() == 0)
        one.until(lambda one=one: one.all("peak").count() == PEAKS_PER_FRAME)
    assert other.errors == []
    resumed.stop(n_frames=3)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demo_plays_from_empty_to_complete(browser, tmp_path):
    command = [sys.executable, "-m", "gixi_bluesky", "demo", "--live", "--frames", str(FRAMES)]
    log = tmp_path / "log"
    with log.open("wb") as stderr:
        demo = subprocess.Popen(
            [*command, "--out", str(tmp_path / "demo")], stderr=stderr, preexec_fn=_heed_ctrl_c
        )
    try:
        page = LivePage(browser.new_page(viewport={"width": 1920, "height": 1080}))
        page.open(_announced(log, demo))
        page.until(lambda: page.all("run").count() >= 1, 300)
        uid = page.all("run").last.get_attribute("data-uid")
        state = page.run(uid).get_by_test_id("state")
        page.until(lambda: state.inner_text() == "live")
        page.until(lambda: page.all("raw-image").get_attribute("data-ready") == "true", 300)
        page.until(lambda: state.inner_text() == "complete", 300)
        page.run(uid).click()
        phase = page.page.locator("[data-testid=phase][data-phase=MAPbBr3]")
        page.until(lambda: float(phase.get_attribute("data-probability") or 0) > 0.9)
        assert "since frame" in phase.inner_text()
        page.until(lambda: slider_end(page) == FRAMES - 1)
        assert page.errors == []
    finally:
        demo.send_signal(signal.SIGINT)
        assert demo.wait(timeout=300) == 0, log.read_text(encoding="utf-8")


def _heed_ctrl_c() -> None:
    """Undo what shells do to programs in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _announced(log: Path, process: subprocess.Popen[bytes]) -> str:
    """Return the address that a command printed."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(r"live view: (\S+)", log.read_text(encoding="utf-8"))
        if found:
            return found[1]
        time.sleep(0.1)
    pytest.fail(log.read_text(encoding="utf-8"))
