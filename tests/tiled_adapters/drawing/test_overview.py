"""The overview figure of a derived run."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from gixi_bluesky.errors import StoreError
from gixi_bluesky.tiled_adapters.drawing.overview import Overview, overview_figure

N_PHI, N_Q, Q_MAX = 64, 128, 3.0
LINES = {(1, 0, 0): 1.06, (1, 1, 0): 1.50, (2, 0, 0): 2.12}
ONSET_FRAME, FRAMES = 4, 10


class MadeUpRun:
    """Rings of one phase that appear at ONSET_FRAME, as a derived run would hold them."""

    def __init__(self, frames=FRAMES, images=True):
        self.start = {
            "scan_id": 12,
            "sample_name": "a film",
            "gixi": {"grid": {"q_max_inv_angstrom": Q_MAX, "shape": [N_PHI, N_Q]}},
        }
        self.n, self.images, self.fetched = frames, images, []
        self.summary = {"phases": {"MAPbBr3": {"name": "MAPbBr3", "max_probability": 0.98}}}

    def frames(self):
        columns = ["frame", "raw_time", "total_intensity", "status"]
        return pd.DataFrame(
            [(i, 1e9 + 2.0 * i, 100.0 + i, "ok") for i in range(self.n)], columns=columns
        )

    def peaks(self):
        columns = ["frame", "peak", "q", "phi", "q_xy", "q_z", "x0", "y0", "x1", "y1", "intensity",
                   "track"]  # fmt: skip
        column = {line: line / Q_MAX * (N_Q - 1) for line in (*LINES.values(), 0.45)}
        rows = [
            (i, p, q, 45.0, q * 0.7071, q * 0.7071, x - 1, 4, x + 1, 60, i * 10.0, p)
            for i in range(ONSET_FRAME, self.n)
            for p, (q, x) in enumerate(column.items())
        ]
        return pd.DataFrame(rows, columns=columns)

    def matches(self):
        rows = [(i, "MAPbBr3", 0.98 if i >= ONSET_FRAME else 0.02) for i in range(self.n)]
        rows += [(i, "PbI2", 0.1) for i in range(self.n)]
        table = pd.DataFrame(rows, columns=["frame", "phase", "probability"])
        return table.assign(lattice_scale=1.0 + 1e-4 * table["frame"], lattice_scale_error=2e-4)

    def match_peaks(self):
        rows = [
            (i, p, phase, *hkl, 0.001)
            for i in range(ONSET_FRAME, self.n)
            for p, hkl in enumerate(LINES)
            for phase in ("MAPbBr3", "PbI2")
        ]
        return pd.DataFrame(rows, columns=["frame", "peak", "phase", "h", "k", "l", "dq"])

    def polar_image(self, frame):
        if not self.images:
            raise StoreError("this run keeps no images")
        self.fetched.append(frame)
        image = np.full((N_PHI, N_Q), 3.0, np.float32)
        image[:, 45] = 30.0
        image[-8:, 80:] = np.nan
        image[5, 100] = 1e6  # a hot pixel
        return image


def texts(figure):
    return [text.get_text() for text in figure.findobj(match=lambda a: hasattr(a, "get_text"))]


def test_the_panels_show_phase_onset_and_lines():
    said = texts(overview_figure(MadeUpRun()))
    assert {"(a)", "(b)", "(c)", "(d)", "(e)"} <= set(said)
    assert "MAPbBr3 peaks, from 8 s" in said
    assert {"100", "110", "200"} <= set(said)
    assert not any("PbI2" in text for text in said)


def test_times_can_be_those_of_the_experiment():
    said = texts(overview_figure(MadeUpRun(), {i: 10.0 * i for i in range(FRAMES)}))
    assert "MAPbBr3 peaks, from 40 s" in said


def test_an_estimated_onset_is_shown_with_its_interval():
    run = MadeUpRun()
    bounds = {"onset_frame": 3, "onset_frame_low": 2, "onset_frame_high": 4}
    run.summary["phases"]["MAPbBr3"] |= bounds
    figure = overview_figure(run)
    assert "MAPbBr3 peaks, from 6 s (4 to 8 s)" in texts(figure)
    (shaded,) = figure.axes[1].patches
    assert (shaded.get_x(), shaded.get_x() + shaded.get_width()) == (4.0, 8.0)


def test_tracks_and_the_lattice_are_lines_over_time():
    axes = overview_figure(MadeUpRun()).axes
    drawn = {len(line.get_xdata()): line.get_ydata() for line in axes[6].lines}
    np.testing.assert_allclose(drawn[FRAMES - ONSET_FRAME], np.arange(ONSET_FRAME, FRAMES) * 0.01)
    tracks = [line for line in axes[0].lines if line.get_linestyle() == "-"]
    assert len(tracks) == 4
    assert {len(line.get_xdata()) for line in tracks} == {FRAMES - ONSET_FRAME}


def test_a_hot_pixel_draws_no_line_through_the_waterfall():
    data = Overview(MadeUpRun()).data()
    assert max(profile[100] for profile in data.profiles.values()) < 4.0


def test_images_are_fetched_once_while_the_run_grows():
    run = MadeUpRun(frames=5)
    overview = Overview(run)
    overview.data()
    run.n = FRAMES
    run.fetched.clear()
    overview.data()
    assert sorted(set(run.fetched)) == [5, 6, 7, 8, 9]


@pytest.mark.parametrize("run", [MadeUpRun(frames=0), MadeUpRun(frames=1), MadeUpRun(images=False)])
def test_a_run_with_little_in_it_still_gives_a_figure(run, tmp_path):
    Overview(run).save(tmp_path / "overview.png")
    with Image.open(tmp_path / "overview.png") as picture:
        assert min(picture.size) > 800


def test_the_picture_is_replaced_whole(tmp_path):
    path = tmp_path / "overview.png"
    path.write_bytes(b"old")
    Overview(MadeUpRun()).save(path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in tmp_path.iterdir()] == ["overview.png"]


@pytest.mark.parametrize(("space", "panel"), [("polar", 3), ("cartesian", 4)])
def test_boxes_are_drawn_in_the_panel_of_the_image_that_was_searched(space, panel):
    run = MadeUpRun()
    run.start["gixi"]["grid"]["space"] = space
    axes = overview_figure(run).axes
    boxed = [i for i, axis in enumerate(axes) if any(p.get_fill() is False for p in axis.patches)]
    assert boxed == [panel]
    corner = axes[panel].patches[0].get_xy()
    assert corner[0] == pytest.approx((1.06 / Q_MAX * (N_Q - 1) - 1) * Q_MAX / (N_Q - 1))
    assert corner[1] == pytest.approx(4 * (90 if space == "polar" else Q_MAX) / (N_PHI - 1))
