"""`publish` makes a bundle that holds together; `reproduce` makes its results again."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml
from cli.conftest import GEOMETRY
from full_disk import files_below
from typer.testing import CliRunner, Result

from gixi_bluesky.cli import app
from gixi_bluesky.processing.structures.cif_files import shipped_cifs

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory, frame: np.ndarray) -> Path:
    """A folder with the images of a film, analysed into `results`, and its bundle."""
    folder = tmp_path_factory.mktemp("film")
    (folder / "raw").mkdir()
    (folder / "mine").mkdir()
    shutil.copy(shipped_cifs()["MAPbBr3"], folder / "mine" / "perovskite.cif")
    mask = np.zeros(frame.shape, bool)
    mask[:, 60] = True
    np.save(folder / "mine" / "mask.npy", mask)
    random = np.random.default_rng(5)
    for number in range(2):
        taken = random.poisson(frame).astype(np.int32)
        tifffile.imwrite(folder / "raw" / f"film_{number}.tif", taken)
    tree = {
        "geometry": {**GEOMETRY, "mask": "mine/mask.npy"},
        "grid": {"q_max_inv_angstrom": 3.0, "shape": [128, 256]},
        "detector": {"weights": "classical"},
        "matching": {"cif": ["mine/perovskite.cif"]},
        "cuts": {"film": {"along": "q", "phi": [10, 80], "bins": 40}},
        "output": {"directory": "results", "dois": {"software": "10.1234/gixi"}},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    people = [
        {"name": "Family name, Given name", "orcid": "0000-0002-1825-0097", "affiliation": "A lab"}
    ]
    (folder / "creators.yaml").write_text(yaml.safe_dump(people), encoding="utf-8")
    reported = ["process", "--watch", "raw", "--config", "config.yaml", "--stop-after", "1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        ran = CliRunner().invoke(app, reported)
        assert ran.exit_code == 0, ran.stderr
        published = CliRunner().invoke(
            app,
            [
                *("publish", uid_of(folder), "--out", "bundle", "--raw-doi", "10.5555/raw"),
                *("--license", "CC-BY-4.0", "--creators", "creators.yaml"),
            ],
        )
        assert published.exit_code == 0, published.stderr
    return folder


def uid_of(folder: Path) -> str:
    (finished,) = (folder / "results").glob("*.nxs")
    return finished.stem


@pytest.fixture
def bundle(film: Path, tmp_path: Path) -> Path:
    """A copy of the bundle, which a test may damage."""
    return Path(shutil.copytree(film / "bundle", tmp_path / "copy"))


@pytest.mark.slow
def test_a_bundle_holds_the_run_and_what_made_it(film: Path) -> None:
    bundle, uid = film / "bundle", uid_of(film)
    names = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    assert {
        f"{uid}.nxs",
        f"tables/{uid}_peaks.csv",
        f"tables/{uid}_courses.csv",
        f"cuts/{uid}_film/frame_000001.xy",
        "picture.png",
        "configuration.yaml",
        "inputs/cif/perovskite.cif",
        "inputs/mask/mask.npy",
        "requirements.txt",
        "reproduce.sh",
        "ro-crate-metadata.json",
    } <= names
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet", "checksums-sha256.txt"],
        cwd=bundle,
        check=False,
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stdout
    text = (bundle / "configuration.yaml").read_text(encoding="utf-8")
    assert str(film) not in text
    assert yaml.safe_load(text)["matching"]["cif"] == ["inputs/cif/perovskite.cif"]


@pytest.mark.slow
def test_the_crate_says_what_was_made_from_what(film: Path) -> None:
    text = (film / "bundle" / "ro-crate-metadata.json").read_text(encoding="utf-8")
    graph = {entity["@id"]: entity for entity in json.loads(text)["@graph"]}
    root, uid = graph["./"], uid_of(film)
    assert root["license"] == {"@id": "https://spdx.org/licenses/CC-BY-4.0"}
    assert root["author"] == {"@id": "https://orcid.org/0000-0002-1825-0097"}
    assert root["isBasedOn"] == {"@id": "https://doi.org/10.5555/raw"}
    assert {"@id": f"urn:uuid:{uid}"} in root["mentions"]
    assert graph[root["identifier"]["@id"]]["value"] == f"urn:uuid:{uid}"
    assert {part["@id"] for part in graph["cuts/"]["hasPart"]} == {
        f"cuts/{uid}_film/frame_{number:06d}.xy" for number in range(2)
    }
    action = graph[f"urn:uuid:{uid}"]
    assert action["@type"] == "CreateAction"
    assert {"@id": "inputs/cif/perovskite.cif"} in action["object"]
    assert {"@id": f"{uid}.nxs"} in action["result"]
    assert action["instrument"] == {"@id": "#gixi_bluesky"}
    for name in (f"{uid}.nxs", "configuration.yaml"):
        assert len(graph[name]["sha256"]) == 64


@pytest.mark.slow
def test_records_link_raw_processed_and_analysed_data_in_both_directions(film: Path) -> None:
    def links(name: str) -> set[tuple[str, str]]:
        record = json.loads((film / "bundle" / name).read_text(encoding="utf-8"))
        return {(x["relationType"], x["relatedIdentifier"]) for x in record["relatedIdentifiers"]}

    expected = {("IsDerivedFrom", "10.5555/raw"), ("IsCompiledBy", "10.1234/gixi")}
    assert links("datacite-processed.json") == links("datacite-analysed.json") == expected
    backward = json.loads(
        (film / "bundle" / "datacite-backward-links.json").read_text(encoding="utf-8")
    )
    assert set(backward) == {"10.5555/raw", "10.1234/gixi"}
    assert {one["relationType"] for one in backward["10.5555/raw"]} == {"IsSourceOf"}
    assert {one["relationType"] for one in backward["10.1234/gixi"]} == {"Compiles"}
    zenodo = json.loads((film / "bundle" / "zenodo.json").read_text(encoding="utf-8"))["metadata"]
    assert zenodo["creators"][0]["orcid"] == "0000-0002-1825-0097"
    assert {"isDerivedFrom", "isCompiledBy"} == {
        one["relation"] for one in zenodo["related_identifiers"]
    }


@pytest.mark.slow
def test_the_results_of_a_bundle_are_made_again(film: Path, bundle: Path, run: Run) -> None:
    again = run("reproduce", bundle, "--raw", film / "raw", "--json")
    assert again.exit_code == 0, again.stderr
    verdicts = {one["name"]: one for one in map(json.loads, again.stdout.splitlines())}
    assert set(verdicts) >= {"frames", "peaks", "courses", "cuts/film", "images"}
    assert {one["verdict"] for one in verdicts.values()} <= {"equal", "rounding"}


@pytest.mark.slow
def test_a_difference_is_named_and_is_the_exit_status(
    film: Path, bundle: Path, run: Run, tmp_path: Path
) -> None:
    raw = tmp_path / "other"
    raw.mkdir()
    for path in sorted((film / "raw").iterdir()):
        tifffile.imwrite(raw / path.name, tifffile.imread(path) * 2)
    again = run("reproduce", bundle, "--raw", raw)
    assert again.exit_code == 1
    reported = dict(line.split(": ", 1) for line in again.stdout.splitlines())
    assert reported["images"].startswith("differs: image 0 by up to")
    assert reported["cuts/film"].startswith("differs: cuts/film by up to")


def changed(bundle: Path) -> None:
    (bundle / "configuration.yaml").write_text("geometry: {}", encoding="utf-8")


def with_another_file(bundle: Path) -> None:
    (bundle / "extra.txt").write_text("x", encoding="utf-8")


def with_a_link(bundle: Path) -> None:
    (bundle / "inputs" / "mask" / "mask.npy").unlink()
    (bundle / "inputs" / "mask" / "mask.npy").symlink_to("/etc/passwd")


def with_a_name_outside(bundle: Path) -> None:
    sums = bundle / "checksums-sha256.txt"
    sums.write_text(f"{'0' * 64}  ../secret\n{sums.read_text(encoding='utf-8')}", encoding="utf-8")


def without_a_file(bundle: Path) -> None:
    (bundle / "picture.png").unlink()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (changed, "configuration.yaml has changed"),
        (with_another_file, "extra.txt is not among the files"),
        (with_a_link, "leads out of the bundle"),
        (with_a_name_outside, "leads out of the bundle"),
        (without_a_file, "picture.png cannot be read"),
    ],
)
def test_a_bundle_that_is_not_as_it_was_made_is_refused(
    film: Path, bundle: Path, run: Run, damage: Callable[[Path], None], message: str
) -> None:
    damage(bundle)
    refused = run("reproduce", bundle, "--raw", film / "raw")
    assert refused.exit_code == 2
    assert message in " ".join(refused.stderr.split())


@pytest.mark.slow
def test_steps_of_a_bundle_run_only_if_their_entry_point_is_installed(
    film: Path, bundle: Path, run: Run
) -> None:
    from gixi_bluesky.tiled_adapters.bundles.layout import write_checksums

    path = bundle / "configuration.yaml"
    tree: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump({**tree, "steps": ["not_installed"]}), encoding="utf-8")
    write_checksums(bundle)
    refused = run("reproduce", bundle, "--raw", film / "raw")
    assert refused.exit_code == 2
    assert "not_installed" in refused.stderr


@pytest.mark.slow
def test_publish_refuses_a_folder_with_content_and_a_file_that_is_gone(
    film: Path, run: Run, tmp_path: Path
) -> None:
    results, uid = film / "results", uid_of(film)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x", encoding="utf-8")
    full = run("publish", uid, "--directory", results, "--out", tmp_path / "full")
    assert full.exit_code == 2
    assert "is not an empty folder" in " ".join(full.stderr.split())
    away = film / "mine" / "gone.cif"
    (film / "mine" / "perovskite.cif").rename(away)
    try:
        gone = run("publish", uid, "--directory", results, "--out", tmp_path / "new")
    finally:
        away.rename(film / "mine" / "perovskite.cif")
    assert gone.exit_code == 2
    assert "matching.cif" in gone.stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_a_full_disk_leaves_no_half_bundle_and_no_half_export(
    film: Path, run: Run, tmp_path: Path
) -> None:
    uid, results = uid_of(film), film / "results"
    with files_below(50_000):
        refused = run("publish", uid, "--directory", results, "--out", tmp_path / "bundle")
        exported = run("export", uid, "--nexus", "--directory", results, "--out", tmp_path)
    assert (refused.exit_code, exported.exit_code) == (2, 2)
    assert "cannot write" in refused.stderr
    assert "incomplete file is removed" in " ".join(exported.stderr.split())
    assert [path.name for path in tmp_path.rglob("*")] == ["bundle"]  # the empty folder
