"""`gixi-bluesky process` on image files."""

from __future__ import annotations

import fabio
import h5py
import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml

from gixi_bluesky.callbacks.worker import sequence
from gixi_bluesky.tiled_adapters.files.result_reading import read_table

pytestmark = pytest.mark.slow  # starts processes or networks in most tests

RINGS = (1.0591, 1.4978, 2.1181, 2.3682)  # 1/angstrom; cubic, a = 5.9328 angstrom
KEYS = {"image", "status", "reason", "peaks", "matches"}
PEAK_COLUMNS = [
    *("frame", "peak", "track", "q", "q_error", "phi", "q_xy", "q_z", "fwhm_q", "fwhm_phi"),
    *("x0", "y0", "x1", "y1", "score", "snr", "intensity", "intensity_error", "background"),
    *("kind", "fit_flags", "graininess", "phi_error", "fwhm_q_error", "fwhm_phi_error"),
]


def test_one_image_gives_one_json_object_with_the_rings(run, lines, config_file, image):
    result = run("process", image, "--config", config_file, "--json")
    assert result.exit_code == 0, result.stderr
    (found,) = lines(result)
    assert set(found) == KEYS
    assert (found["image"], found["status"], found["reason"]) == (str(image), "ok", "")
    assert list(found["peaks"][0]) == PEAK_COLUMNS
    positions = np.array([peak["q"] for peak in found["peaks"]])
    for ring in RINGS:
        assert np.abs(positions - ring).min() < 0.005 * ring
    (match,) = found["matches"]
    assert list(match) == ["phase", "probability", "n_matched", "n_expected", "peaks"]
    assert match["phase"] == "MAPbBr3"
    assert {tuple(peak[k] for k in "hkl") for peak in match["peaks"]} >= {(1, 0, 0), (2, 0, 0)}
    assert list(match["peaks"][0]) == ["peak", "h", "k", "l", "dq"]


def test_relative_names_start_from_here(run, lines, config_file, image, monkeypatch):
    monkeypatch.chdir(image.parent)
    result = run("process", image.name, image.name, "--config", config_file, "--json")
    assert result.exit_code == 0, result.stderr
    assert [(one["image"], one["status"]) for one in lines(result)] == [(image.name, "ok")] * 2


def test_every_file_format_and_every_frame_gets_its_object(run, lines, config_file, image, frame):
    folder = image.parent
    fabio.edfimage.EdfImage(frame).write(str(folder / "film.edf"))
    fabio.cbfimage.CbfImage(frame).write(str(folder / "film.cbf"))
    with h5py.File(folder / "film.h5", "w") as file:
        file["/entry/data/data"] = np.stack([frame, frame])
    names = [image, folder / "film.edf", folder / "film.cbf", folder / "film.h5"]
    result = run("process", *names, "--config", config_file, "--json")
    assert result.exit_code == 0, result.stderr
    found = lines(result)
    expected = [*map(str, names[:3]), f"{names[3]}::0", f"{names[3]}::1"]
    assert [one["image"] for one in found] == expected
    assert {tuple(peak["q"] for peak in one["peaks"]) for one in found} == {
        tuple(peak["q"] for peak in found[0]["peaks"])
    }


def test_a_bad_image_is_reported_and_the_next_goes_on(run, lines, config_file, image):
    junk = image.with_name("junk.tif")
    junk.write_bytes(b"no image")
    flat = image.with_name("negative.tif")
    tifffile.imwrite(flat, np.full((300, 320), -1, np.int32))
    absent = image.with_name("absent.tif")
    result = run("process", junk, flat, absent, image, "--config", config_file, "--json")
    assert result.exit_code == 1
    found = lines(result)
    assert [one["status"] for one in found] == ["unavailable", "failed", "unavailable", "ok"]
    assert all(one["reason"] for one in found[:3])
    assert "absent.tif" in found[2]["reason"]


def test_out_holds_every_frame(run, config_file, image):
    out = image.with_name("found.h5")
    result = run("process", image, image, "--config", config_file, "--out", out)
    assert result.exit_code == 0, result.stderr
    with h5py.File(out) as file:
        assert file["/entry/polar/intensity"].shape == (2, 128, 256)
        assert set(file["/entry/peaks/frame"][()]) == {0, 1}
        frames = read_table(file["entry"], "frames")
        assert file["/entry/title"].asstr()[()] == image.parent.name
    assert frames["source"].tolist() == [str(image)] * 2
    assert frames["raw_time"].tolist() == [image.stat().st_mtime] * 2


def test_an_image_that_failed_keeps_its_row_and_number(run, config_file, image):
    out, absent = image.with_name("found.h5"), image.with_name("absent.tif")
    result = run("process", absent, image, "--config", config_file, "--out", out)
    assert result.exit_code == 1
    with h5py.File(out) as file:
        frames = read_table(file["entry"], "frames")
        assert file["/entry/polar/frame"][()].tolist() == [1]
    assert frames["status"].tolist() == ["unavailable", "ok"]
    assert frames["source"].tolist() == [str(absent), str(image)]


def test_a_place_that_cannot_be_written_fails_at_the_start(run, config_file, image):
    out = image.parent / "nowhere" / "found.h5"
    result = run("process", image, "--config", config_file, "--out", out)
    assert result.exit_code == 2
    assert "results cannot be written to" in result.stderr
    assert "peaks" not in result.stdout


def test_images_that_the_file_holds_are_shown_from_there(
    run, lines, config_file, image, monkeypatch
):
    out, absent = image.with_name("found.h5"), image.with_name("absent.tif")
    arguments = ("process", absent, image, image, "--config", config_file, "--out", out, "--json")
    first = run(*arguments)
    content = out.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(sequence, "analyse_in_order", None)  # it would fail
        second = run(*arguments)
    assert (first.exit_code, second.exit_code) == (1, 1)
    assert "found.h5 holds these images" in " ".join(second.stderr.split())
    assert lines(second) == lines(first)
    assert out.read_bytes() == content
    again = run(*arguments, "--again")
    assert lines(again) == lines(first)
    assert image.with_name("found-2.h5").exists()
    assert out.read_bytes() == content


def test_changed_images_and_other_settings_are_analysed(run, lines, config_file, image, frame):
    out = image.with_name("found.h5")
    arguments = ("process", image, "--config", config_file, "--out", out, "--json")
    run(*arguments)
    tifffile.imwrite(image, frame * 2)
    changed = run(*arguments)
    assert "holds these images" not in changed.stderr
    other = run(*arguments, "--incidence-angle", 0.4)
    assert "holds these images" not in other.stderr
    with h5py.File(out) as file:
        assert read_table(file["entry"], "frames")["incidence_angle_deg"].tolist() == [0.4]


def test_what_is_done_when_it_is_interrupted_is_kept(run, config_file, image, monkeypatch):
    analyse = sequence.analyse_in_order

    def interrupted(pool, jobs):
        yield next(analyse(pool, jobs))
        raise KeyboardInterrupt

    monkeypatch.setattr(sequence, "analyse_in_order", interrupted)
    out = image.with_name("found.h5")
    result = run("process", image, image, image, "--config", config_file, "--out", out)
    assert result.exit_code != 0
    assert "with 1 of 3 images, as it was interrupted" in result.stderr
    with h5py.File(out) as file:
        assert file["/entry/polar/intensity"].shape[0] == 1


def test_all_peaks_of_all_images_go_into_a_csv_file(run, lines, config_file, image):
    table = image.with_name("peaks.csv")
    result = run("process", image, image, "--config", config_file, "--json", "--csv", table)
    rows = pd.read_csv(table)
    assert len(rows) == sum(len(found["peaks"]) for found in lines(result))
    assert set(rows["image"]) == {str(image)}
    assert "MAPbBr3" in set(rows["phase"])


def test_the_table_for_people_names_the_lines(run, config_file, image):
    result = run("process", image, "--config", config_file)
    assert "MAPbBr3 1 0 0" in result.stdout
    assert "probability" in result.stdout


def test_structures_on_the_command_line_replace_the_configured_ones(
    run, lines, config_file, image, tmp_path
):
    from gixi_bluesky.processing.structures.cif_files import shipped_cifs

    lab6, pbi2 = shipped_cifs()["LaB6"], shipped_cifs()["PbI2"]
    result = run("process", image, "-c", config_file, "--json", "--cif", lab6, pbi2)
    (found,) = lines(result)
    assert {match["phase"] for match in found["matches"]} <= {"LaB6", "PbI2"}


def test_an_angle_from_documents_must_be_given(run, lines, config_file, image):
    tree = yaml.safe_load(config_file.read_text())
    tree["geometry"]["incidence_angle_deg"] = {"from": "th"}
    config_file.write_text(yaml.safe_dump(tree))
    result = run("process", image, "--config", config_file)
    assert result.exit_code == 2
    assert "--incidence-angle" in result.stderr
    result = run("process", image, "--config", config_file, "--incidence-angle", 0.3, "--json")
    assert lines(result)[0]["status"] == "ok"


@pytest.mark.parametrize("arguments", [[], ["film.tif", "--watch", "."]])
def test_images_or_a_folder_must_be_given(run, config_file, arguments):
    result = run("process", *arguments, "--config", config_file)
    assert result.exit_code == 2
    assert "--watch" in result.stderr


def test_no_data_is_null_in_json(run, config_file, image):
    result = run("process", image, "--config", config_file, "--json")
    assert "NaN" not in result.stdout
    assert "Infinity" not in result.stdout


def test_consecutive_images_are_summed_if_asked(run, lines, config_file, image):
    tree = yaml.safe_load(config_file.read_text(encoding="utf-8"))
    config_file.write_text(
        yaml.safe_dump({**tree, "corrections": {"sum_frames": 2}}), encoding="utf-8"
    )
    result = run("process", image, image, image, "--config", config_file, "--json")
    assert result.exit_code == 0, result.stderr
    double, single = lines(result)

    def ring(found):
        return min(found["peaks"], key=lambda peak: abs(peak["q"] - RINGS[0]))["intensity"]

    assert ring(double) == pytest.approx(2 * ring(single), rel=0.02)
