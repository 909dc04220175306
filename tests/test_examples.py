"""What README, docs and examples show does what they say."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import tifffile
import yaml
from typer.main import get_command

from gixi_bluesky.cli import app
from gixi_bluesky.config import load_config
from gixi_bluesky.demo.beamline import SimulatedDetector
from gixi_bluesky.processing.geometry.instrument import Geometry
from gixi_bluesky.processing.settings import GeometrySettings
from gixi_bluesky.processing.structures.cif_files import read_structure, shipped_cifs
from gixi_bluesky.tiled_adapters.files.result_writer import write_result_file
from gixi_bluesky.tiled_adapters.server.embedded import embedded_server

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHAPE = (300, 320)
GEOMETRY = {
    "wavelength_angstrom": 0.6888,
    "distance_mm": 300.0,
    "pixel_size_mm": [0.5, 0.5],
    "beam_center_px": [20.0, 40.0],
    "incidence_angle_deg": 0.3,
}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def commands() -> list[tuple[str, str]]:
    """Return every `gixi-bluesky` line of the pages, with the page it stands in."""
    return [
        (page.name, line.split("#")[0].strip())
        for page in PAGES
        for block in blocks(page, "bash")
        for line in block.splitlines()
        if line.startswith("gixi-bluesky")
    ]


def powder() -> np.ndarray:
    """Counts of a MAPbBr3 powder, (rows, columns) int32."""
    geometry = Geometry.from_settings(GeometrySettings.model_validate(GEOMETRY), SHAPE)
    q = np.hypot(*geometry.q_at(*np.mgrid[: SHAPE[0], : SHAPE[1]]))
    lines = read_structure(shipped_cifs()["MAPbBr3"], q_max=3.0).reflections
    expected = np.full(SHAPE, 20.0)
    for ring, intensity in zip(lines.q, lines.intensity, strict=True):
        expected += 1000 * intensity * np.exp(-(((q - ring) / 0.012) ** 2) / 2)
    return np.random.default_rng(1).poisson(expected).astype(np.int32)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_configuration_loads(path):
    assert load_config(path).grid.shape == (512, 1024)


def test_the_readmes_configuration_loads(tmp_path):
    first, kafka = blocks(ROOT / "README.md", "yaml")
    path = tmp_path / "config.yaml"
    path.write_text(first)
    assert load_config(path).matching.cif == (tmp_path / "cifs",)
    path.write_text(first + kafka)
    assert load_config(path).kafka.topics == ("bluesky.documents",)


@pytest.mark.parametrize(("page", "line"), commands())
def test_every_command_shown_exists_with_its_options(page, line):
    group = get_command(app)
    _, *arguments = shlex.split(line)
    with group.make_context("gixi-bluesky", list(arguments)) as context:
        name, command, rest = group.resolve_command(context, list(arguments))
        command.make_context(name, rest)


def test_every_make_target_shown_exists():
    rules = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = set(re.findall(r"^make (\w+)", "\n".join(blocks(ROOT / "README.md", "bash")), re.M))
    assert shown
    assert shown <= rules


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file(page):
    # The pictures are made by the demo and put there for a release.
    links = re.findall(r"(?<!!)\[[^\]]*\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    for link in links:
        assert link.startswith("https://") or (page.parent / link).exists(), link


@pytest.mark.system
def test_the_readmes_python_runs_from_top_to_bottom(tmp_path, monkeypatch):
    mpl.use("agg")
    monkeypatch.chdir(tmp_path)
    tree = {
        "geometry": GEOMETRY,
        "grid": {"q_max_inv_angstrom": 3.0, "shape": [128, 256]},
        "matching": {"cif": [str(shipped_cifs()["MAPbBr3"])]},
    }
    Path("config.yaml").write_text(yaml.safe_dump(tree))
    frame = powder()
    tifffile.imwrite("frame.tif", frame)
    detector = SimulatedDetector(
        name="giwaxs",
        expose=lambda time_s: frame,
        shape=SHAPE,
        directory=tmp_path / "raw",
        period_s=1.0,
        exposure_s=0.0,
    )
    names = {"detector": detector}
    with embedded_server(tmp_path) as server:
        for block in blocks(ROOT / "README.md", "python"):
            here = block.replace("http://localhost:8000", server.uri)
            here = here.replace('"your-secret-key"', repr(server.api_key))
            exec(compile(here, "README.md", "exec"), names)
        names["analysis"].close()
        here = python_of("scientists.md").replace(
            '"https://…"', f"{server.uri!r}, api_key={server.api_key!r}"
        )
        found = {"raw_uid": names["run"].raw_uid}
        answers = [evaluated(statement, found) for statement in ast.parse(here).body]
        found["catalogue"].context.close()
        names["client"].context.close()
    peaks, run = names["peaks"], names["run"]
    assert set(peaks["frame"]) == {0, 1, 2}
    assert run.summary["phases"]["MAPbBr3"]["max_probability"] > 0.9
    assert names["image"].shape == (128, 256)
    with_phase, with_peak, runs_for, differences = answers[3:]
    assert [len(runs) for runs in (with_phase, with_peak, runs_for)] == [1, 1, 1]
    assert differences == {run.start["uid"]: {}}


def evaluated(statement: ast.stmt, names: dict[str, object]) -> object:
    """Run a statement; return its value if it is an expression, else None."""
    if isinstance(statement, ast.Expr):
        return eval(compile(ast.Expression(statement.value), "page", "eval"), names)
    exec(compile(ast.Module([statement], []), "page", "exec"), names)
    return None


def python_of(page: str) -> str:
    """Return the Python that a page of the documentation shows."""
    (code,) = blocks(ROOT / "docs" / page, "python")
    return code


def test_the_documentations_python_runs_on_a_frame(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tree = {
        "geometry": GEOMETRY,
        "grid": {"q_max_inv_angstrom": 3.0, "shape": [128, 256]},
        "cuts": {"film": {"along": "q", "phi": [10, 80]}},
    }
    Path("config.yaml").write_text(yaml.safe_dump(tree))
    tifffile.imwrite("frame.tif", powder())
    cuts, step, visitors = {}, {}, {}
    exec(compile(python_of("cuts.md"), "cuts.md", "exec"), cuts)
    assert "\nfilm [" in "\n" + capsys.readouterr().out
    result = cuts["result"]
    exec(compile(python_of("steps.md"), "steps.md", "exec"), step)
    row = step["Brightest"]()(result)
    assert row["q"] == result.peaks.sort_values("intensity")["q"].iloc[-1]
    write_result_file("run.nxs", [result], {})
    exec(compile(python_of("visitors.md"), "visitors.md", "exec"), visitors)
    np.testing.assert_array_equal(visitors["q"], result.peaks["q"])
    np.testing.assert_array_equal(visitors["image"], result.polar_image)


def run_example(name: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_one_frame(tmp_path):
    tifffile.imwrite(tmp_path / "frame.tif", powder())
    tree = {
        "geometry": GEOMETRY,
        "grid": {"q_max_inv_angstrom": 3.0, "shape": [128, 256]},
        "matching": {"cif": [str(shipped_cifs()["MAPbBr3"])]},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree))
    reported = run_example("01_one_frame.py", tmp_path / "frame.tif", tmp_path / "config.yaml")
    assert "MAPbBr3" in reported


@pytest.mark.slow
@pytest.mark.data
def test_one_real_frame(shared_data):
    (image,) = (shared_data / "mapbbr3_p08").glob("*.tif")
    assert "MAPbBr3" in run_example("01_one_frame.py", image)


@pytest.mark.system
@pytest.mark.timeout(900)
def test_a_scan_and_the_questions_after_it(tmp_path):
    reported = run_example("02_runengine.py", tmp_path)
    assert "'frames_done': 4" in reported
    asked = run_example("03_query.py", tmp_path)
    assert "MAPbBr3" in asked
    assert "unfinished: 0" in asked
