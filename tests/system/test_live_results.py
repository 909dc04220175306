"""The live view of a run that was really analysed: cuts, textures, stored images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import yaml
from bluesky_tiled_plugins import TiledWriter
from live_pages import LivePage, chromium, spread
from raw_runs import KEY as IMAGE_KEY
from raw_runs import feed, hdf5_run
from served import KEY, Server

from gixi_bluesky.callbacks import Analysis
from gixi_bluesky.config import load_config
from gixi_bluesky.processing.geometry.instrument import Geometry
from gixi_bluesky.processing.settings import GeometrySettings
from gixi_bluesky.processing.structures.cif_files import read_structure, shipped_cifs
from gixi_bluesky.tiled_adapters import queries
from gixi_bluesky.web import page_address

pytestmark = [pytest.mark.system, pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(900)]

SHAPE = (120, 140)
FRAMES = 2
GEOMETRY = {
    "wavelength_angstrom": 0.6888,
    "distance_mm": 300.0,
    "pixel_size_mm": [1.2, 1.2],
    "beam_center_px": [8.0, 16.0],
    "incidence_angle_deg": 0.3,
}
RING = [1.01, 1.11]
CONFIG = {
    "geometry": GEOMETRY,
    "grid": {"q_max_inv_angstrom": 2.5, "shape": [64, 256]},
    "detector": {"weights": "classical"},
    "matching": {"cif": [str(shipped_cifs()["MAPbBr3"])]},
    "cuts": {"film": {"along": "q", "phi": [10, 80]}, "ring": {"along": "phi", "q": RING}},
    "textures": {"first": {"q": RING, "background": [[0.9, 0.96], [1.16, 1.22]]}},
    "tracks": {"follow": False},
    "queue": {"workers": 1},
    "output": {"directory": "results", "q_images": "all"},
}


def film() -> np.ndarray[Any, Any]:
    """Counts of MAPbBr3 whose rings are strong near the surface normal, (frame, row, column)."""
    geometry = Geometry.from_settings(GeometrySettings.model_validate(GEOMETRY), SHAPE)
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    q_xy, q_z = geometry.q_at(rows, columns)
    q, phi = np.hypot(q_xy, q_z), np.arctan2(q_z, np.abs(q_xy))
    lines = read_structure(shipped_cifs()["MAPbBr3"], q_max=2.5).reflections
    expected = np.full(SHAPE, 20.0)
    for ring, intensity in zip(lines.q, lines.intensity, strict=True):
        bell = np.exp(-(((q - ring) / 0.015) ** 2) / 2)
        expected += 2000 * intensity * bell * (0.2 + np.sin(phi) ** 8)
    return np.random.default_rng(1).poisson(expected, (FRAMES, *SHAPE)).astype("<u2")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server beside CONFIG as a file."""
    folder = tmp_path_factory.mktemp("results")
    (folder / "own.yaml").write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
    one = Server(folder)
    one.start()
    yield one
    one.close()


@pytest.fixture(scope="module")
def derived_uid(server: Server) -> str:
    """A run with all that a configuration can ask for."""
    config = load_config(server.directory / "own.yaml")
    documents = hdf5_run(server.directory / "raw.h5", film())
    documents[1][1]["data_keys"][IMAGE_KEY]["dtype_numpy"] = "<u2"
    feed(TiledWriter(server.catalog("raw")), documents)
    catalogue = server.catalog("gixi")
    with Analysis(config, tiled=catalogue) as analysis:
        feed(analysis, documents)
        analysis.drain(120)
    (run,) = queries.runs_for(catalogue, documents[0][1]["uid"])
    return str(run.start["uid"])


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as one:
        yield one


@pytest.fixture
def tab(browser: Any, server: Server, derived_uid: str) -> Iterator[LivePage]:
    """The page with the run open."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    address = page_address(server.uri.removesuffix("/api/v1"), KEY)
    page = LivePage(context.new_page()).open(address)
    page.until(lambda: page.run(derived_uid).count() == 1)
    page.run(derived_uid).click()
    yield page
    context.close()


def test_cuts_textures_and_stored_images_are_shown(tab: LivePage) -> None:
    for name in ("q-image", "polar-image", "raw-image"):
        tab.until(lambda name=name: tab.all(name).get_attribute("data-ready") == "true")
    tab.until(lambda: "as stored" in tab.page.inner_text(".pictures"))
    tab.until(lambda: tab.all("peak").count() > 2)
    tab.all("peak").nth(0).click()
    tab.until(lambda: tab.all("peak-profile").count() == 1)
    tab.until(lambda: tab.all("peak-profile").locator("circle").count() > 4)
    tab.until(lambda: tab.all("peak-profile").locator("path").count() == 1)
    tab.page.get_by_role("tab", name="Texture").click()
    tab.until(lambda: "first" in tab.all("timeline").inner_text())
    tab.page.get_by_role("tab", name="Cuts").click()
    choice = tab.all("timeline").locator("select")
    tab.until(lambda: choice.locator("option").all_inner_texts() == ["film", "ring"])
    for cut in ("film", "ring"):
        choice.select_option(label=cut)
        tab.until(lambda: tab.all("waterfall").get_attribute("data-rows") == str(FRAMES))
        tab.until(lambda: spread(tab.all("waterfall")) > 8)
    assert tab.errors == []
