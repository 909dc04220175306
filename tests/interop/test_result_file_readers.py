"""A result file before the validators of NeXus and in pygid's reader."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest
from foreign_environment import foreign_environment

from gixi_bluesky.tiled_adapters.schema import IMAGE_DATASET

pytestmark = pytest.mark.timeout(900)  # packages are installed at the first use

_PYGID = """
import json, sys
import numpy as np
import pygid

file = pygid.NexusFile(sys.argv[1])
whole, one = file.load_entry("mlgid"), file.load_entry("mlgid", 1)
maps, params = whole.matrix[0], whole.matrix[0].params
np.savez(sys.argv[2], images=whole.img_gid_pol, one=one.img_gid_pol, q=maps.q_gid_pol,
         angle=maps.ang_gid_pol, incidence=whole.ai_list)
sample = file.get_smpl_metadata("mlgid")
print(json.dumps({
    "entries": {name: one["img_type"] for name, one in file.entry_dict.items()},
    "params": [float(getattr(params, name))
               for name in ("SDD", "wavelength", "px_size", "centerX", "centerY")],
    "files": whole.filename, "sample": str(sample.data.get("name")),
}))
"""


def test_pygid_loads_images_axes_and_geometry(result_file: Path, tmp_path: Path) -> None:
    bin_ = foreign_environment("pygid", "pygid==0.2.20", alone=True)
    target = tmp_path / "loaded.npz"
    ran = subprocess.run(
        [bin_ / "python", "-c", _PYGID, result_file, target],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    answer = json.loads(ran.stdout.splitlines()[-1])
    assert answer["entries"] == {"entry": "img_gid_pol", "mlgid": "img_gid_pol"}
    assert answer["params"] == pytest.approx([0.3, 0.6888, 0.0005, 40.0, 20.0])
    assert [Path(name.split("::")[0]).name for name in answer["files"]] == [
        "film_0.tif",
        "film_1.tif",
    ]
    with h5py.File(result_file) as file, np.load(target) as loaded:
        images = file[IMAGE_DATASET][()]
        np.testing.assert_array_equal(loaded["images"], images)
        np.testing.assert_array_equal(loaded["one"][0], images[1])
        np.testing.assert_array_equal(loaded["q"], file["/entry/polar/q"][()])
        np.testing.assert_array_equal(loaded["angle"], file["/entry/polar/phi"][()])
        assert loaded["incidence"].tolist() == [0.3, 0.3]


def test_punx_finds_only_what_is_newer_than_its_definitions(result_file: Path) -> None:
    """Its newest definitions are of 2018: NXazint1d and NXazint2d came later."""
    bin_ = foreign_environment("punx", "punx==0.3.5", alone=True)
    ran = subprocess.run(
        [bin_ / "punx", "validate", "--report", "ERROR", result_file],
        capture_output=True,
        text=True,
        check=False,
    )
    found = set(re.findall(r"^(/\S+)\s+ERROR\s", ran.stdout, re.MULTILINE))
    counted = re.search(r"^ERROR\s+(\d+)", ran.stdout, re.MULTILINE)
    assert counted, ran.stdout + ran.stderr
    newer = {"/entry/azint2d", "/entry/azint1d_film"}
    assert found == newer | {f"{name}/data@axes" for name in newer}
    assert int(counted[1]) == len(found)
