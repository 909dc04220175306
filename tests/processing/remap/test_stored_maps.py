"""Maps from the disk are those that were built, for the same set-up only."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gixi_bluesky.processing.geometry.instrument import Geometry
from gixi_bluesky.processing.remap import stored_maps
from gixi_bluesky.processing.remap.footprint import Footprint
from gixi_bluesky.processing.remap.remapper import Remapper
from gixi_bluesky.processing.settings import CorrectionSettings, GridSettings

GEOMETRY = Geometry(1.0, 0.2, (2e-4, 2e-4), (0.005, 0.03), incidence_angle_rad=0.003)
GRID = GridSettings(q_max_inv_angstrom=1.5, shape=(64, 96))
SHAPE = (200, 320)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "gixi_bluesky" / "maps"


@pytest.fixture
def built(monkeypatch) -> list[int]:
    """Count how often maps are built."""
    calls: list[int] = []
    build = Footprint.build

    def counting(*arguments, **options):
        calls.append(1)
        return build(*arguments, **options)

    monkeypatch.setattr(Footprint, "build", counting)
    return calls


def remapper(**change) -> Remapper:
    parts = {"geometry": GEOMETRY, "grid": GRID, "corrections": CorrectionSettings()} | change
    mask = parts.pop("mask", None)
    return Remapper(*parts.values(), SHAPE, mask, stored=True)


def frame() -> np.ndarray:
    counts = np.random.default_rng(0).poisson(20, SHAPE).astype(np.float32)
    counts[50:60, 70:90] = np.nan
    return counts


def test_stored_maps_give_the_same_image_bit_for_bit(folder, built):
    expected = remapper()(frame())
    found = remapper()(frame())
    assert len(built) == 1
    assert len(list(folder.iterdir())) == 1
    for part in ("intensity", "variance", "pixels"):
        np.testing.assert_array_equal(getattr(found, part), getattr(expected, part))
    again = remapper()
    for turned in (frame()[::-1], np.asfortranarray(frame())):
        direct = Remapper(GEOMETRY, GRID, CorrectionSettings(), SHAPE)
        np.testing.assert_array_equal(again(turned).intensity, direct(turned).intensity)


def test_another_set_up_has_its_own_maps(folder, built):
    mask = np.zeros(SHAPE, bool)
    mask[3, 4] = True
    changes = (
        {},
        {"geometry": replace(GEOMETRY, incidence_angle_rad=0.004)},
        {"grid": GRID.model_copy(update={"side": "right"})},
        {"grid": GRID.model_copy(update={"below_horizon": "keep"})},
        {"corrections": CorrectionSettings(solid_angle=False)},
        {"mask": mask},
    )
    for change in (*changes, *changes):
        remapper(**change)
    assert len(built) == len(changes) == len(list(folder.iterdir()))


def test_maps_that_other_code_has_built_are_not_taken(folder, built, monkeypatch):
    remapper()
    monkeypatch.setattr(stored_maps, "_code", lambda: b"another version")
    remapper()
    assert len(built) == 2


def test_a_damaged_file_is_built_again(folder, built):
    remapper()
    (path,) = folder.iterdir()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    expected = Remapper(GEOMETRY, GRID, CorrectionSettings(), SHAPE)(frame())
    np.testing.assert_array_equal(remapper()(frame()).intensity, expected.intensity)
    assert len(built) == 3
    remapper()
    assert len(built) == 3


def test_nothing_is_kept_unless_asked(folder):
    Remapper(GEOMETRY, GRID, CorrectionSettings(), SHAPE)
    assert not folder.exists()
