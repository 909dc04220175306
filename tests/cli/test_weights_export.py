"""`gixi-bluesky weights export`: a file that any configuration may name as its weights."""

from __future__ import annotations

import pytest
import yaml


@pytest.mark.slow
def test_exported_weights_analyse_images_as_the_original(run, lines, config_file, image, tmp_path):
    onnx = tmp_path / "light.onnx"
    result = run("weights", "export", "default", "--onnx", onnx, "--shape", 128, 256)
    assert result.exit_code == 0, result.output
    assert f"wrote {onnx}" in result.stderr
    tree = yaml.safe_load(config_file.read_text())
    found = {}
    for weights in ("default", str(onnx)):
        tree["detector"]["weights"] = weights
        config_file.write_text(yaml.safe_dump(tree))
        result = run("process", image, "-c", config_file, "--json")
        assert result.exit_code == 0, result.output
        (found[weights],) = lines(result)
    original, exported = found.values()
    assert len(original["peaks"]) == len(exported["peaks"]) > 3
    for one, other in zip(original["peaks"], exported["peaks"], strict=True):
        assert abs(one["x0"] - other["x0"]) < 0.01
        assert abs(one["score"] - other["score"]) < 1e-3


def test_what_cannot_be_exported_is_one_message(run, tmp_path):
    for name, message in (
        ("nonsense", "expected default"),
        ("classical", "a search that has none"),
    ):
        result = run("weights", "export", name, "--onnx", tmp_path / "x.onnx")
        assert result.exit_code == 2
        assert f"got weights {name!r}" in result.stderr
        assert message in result.stderr
    assert not list(tmp_path.glob("x.onnx*"))
