"""Chance against every reader: it returns what it promises, or raises an error of ours.

GIXI_FUZZ_EXAMPLES says how many examples each property gets; `make soak` gives it many.
"""

from __future__ import annotations

import json
import os
from random import Random
from typing import Any

import h5py
import msgpack
import numpy as np
import pytest
import yaml
from fakes import GEOMETRY
from hostile_runs import hostile_run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from raw_runs import KEY

from gixi_bluesky.callbacks.documents.budget import payload_bytes
from gixi_bluesky.callbacks.images.allowed_paths import FileAccess
from gixi_bluesky.callbacks.images.detector_files import open_image_file
from gixi_bluesky.callbacks.images.locations import FrameReader, Hdf5Image
from gixi_bluesky.callbacks.kafka.wire import decode, encode
from gixi_bluesky.callbacks.runs.raw_run import Frame, RunClosed, RunOpened
from gixi_bluesky.callbacks.runs.router import Router
from gixi_bluesky.callbacks.settings import InputSettings
from gixi_bluesky.config import Config, load_config
from gixi_bluesky.errors import (
    ConfigError,
    DocumentError,
    GeometryError,
    GixiError,
    StructureFileError,
)
from gixi_bluesky.processing.geometry.poni import Poni, read_poni
from gixi_bluesky.processing.structures.cif_files import read_structure
from gixi_bluesky.tiled_adapters.store.spool import SpoolFile

FEW = int(os.environ.get("GIXI_FUZZ_EXAMPLES") or 40)
fuzzed = settings(
    max_examples=FEW,
    deadline=None,
    derandomize="GIXI_FUZZ_EXAMPLES" not in os.environ,
    suppress_health_check=list(HealthCheck),
)
chances = st.randoms(use_true_random=False)
# For what waits for the disk in each example.
slowly_fuzzed = settings(fuzzed, max_examples=max(FEW // 4, 1))


@fuzzed
@given(chances)
def test_documents_give_actions_or_document_errors(chance: Random) -> None:
    """Nothing else is raised, runs open once before they close, and numbers stay in bounds."""
    router = Router(InputSettings(data_key=KEY, file_timeout_s=0.001))
    actions: list[Any] = []
    reasons: list[str] = []
    for _ in range(3):
        for name, doc in hostile_run(chance):
            assert payload_bytes(doc) >= 0
            try:
                actions += router.feed(name, doc)
            except DocumentError as error:
                reasons.append(str(error))
    assert all(len(reason.encode()) < 2000 for reason in reasons)
    actions += router.tick(float("inf"))
    opened = [action.raw.uid for action in actions if isinstance(action, RunOpened)]
    assert len(opened) == len(set(opened))
    for action in actions:
        if isinstance(action, Frame):
            assert 0 <= action.number < 2**53
            assert action.run_uid in opened
            assert action.image.nbytes < 1 << 20
        elif isinstance(action, RunClosed):
            assert 0 <= action.n_missing < 2**53
            action.stop.reason.encode()


@fuzzed
@given(chances)
def test_what_can_be_encoded_is_decoded_or_refused(chance: Random) -> None:
    for name, doc in hostile_run(chance):
        try:
            message = encode(name, doc)
        except Exception:  # our own documents are never like this
            continue
        try:
            found_name, found = decode(message)
        except DocumentError:
            continue
        assert found_name == name
        assert isinstance(found, dict)


@fuzzed
@given(st.binary(max_size=300), chances)
def test_bytes_are_documents_or_refused(noise: bytes, chance: Random) -> None:
    name, doc = hostile_run(chance)[0]
    sound = b""
    try:
        sound = encode(name, doc)
    except Exception:
        sound = msgpack.packb(["start", {"uid": "u", "time": 1.0}])
    place = chance.randrange(len(sound) + 1)
    spliced = sound[:place] + noise + sound[place + chance.randrange(len(noise) + 1) :]
    for message in (noise, spliced, sound[:place]):
        try:
            _, found = decode(message)
        except DocumentError:
            continue
        assert isinstance(found, dict)


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["/etc/passwd", "http://h/?api_key=k", "classical", "a.cif"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=8,
)
SECTIONS = tuple(Config.model_fields)
trees = st.dictionaries(
    st.sampled_from(SECTIONS),
    plain
    | st.sampled_from(SECTIONS).flatmap(
        lambda section: st.dictionaries(
            st.sampled_from(_keys(section)) | st.text(max_size=5), plain, max_size=4
        )
    ),
    max_size=5,
)


def _keys(section: str) -> list[str]:
    annotation = Config.model_fields[section].annotation
    return list(getattr(annotation, "model_fields", None) or ["x"])


@fuzzed
@given(trees, st.booleans())
def test_a_tree_is_a_configuration_or_refused(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, Any], sound: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    if sound:
        tree["geometry"] = GEOMETRY
    path.write_text(yaml.safe_dump(tree), encoding="utf-8", errors="surrogatepass")
    reason = ""
    try:
        assert isinstance(load_config(path), Config)
    except ConfigError as error:
        reason = str(error)
    assert len(reason) < 20_000
    quiet = [line for line in reason.splitlines() if line.strip().startswith(("tiled", "kafka"))]
    assert not any("api_key=k" in line for line in quiet)


@fuzzed
@given(st.text(max_size=200) | st.binary(max_size=200))
def test_yaml_text_is_a_configuration_or_refused(
    tmp_path_factory: pytest.TempPathFactory, text: str | bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "text.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode(errors="surrogatepass"))
    with pytest.raises(ConfigError):
        load_config(path)


@fuzzed
@given(trees, plain, plain)
def test_a_stored_configuration_is_data_or_refused(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, Any], provenance: Any, start: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.h5"
    stored = {"configuration": {"geometry": GEOMETRY, **tree}, "provenance": provenance}
    with h5py.File(path, "w") as file:
        for name, value in {**stored, "start_document": start}.items():
            text = json.dumps(value)
            file[f"/entry/process/{name}"] = text
    try:
        taken = load_config(path)
    except ConfigError:
        return
    assert taken.tiled.uri is None
    assert not taken.kafka.options
    assert not taken.input.roots
    assert taken.slurm.prologue == ()


def changed_text(text: str, chance: Random, words: tuple[str, ...]) -> str:
    """Return a text with some lines changed, lost, doubled or swapped."""
    lines = text.splitlines()
    for _ in range(chance.randrange(1, 6)):
        place = chance.randrange(len(lines))
        fault = chance.randrange(5)
        if fault == 0 and len(lines) > 1:
            del lines[place]
        elif fault == 1:
            lines.insert(place, chance.choice(lines))
        elif fault == 2:
            tokens = lines[place].split() or [""]
            tokens[chance.randrange(len(tokens))] = chance.choice(words)
            lines[place] = " ".join(tokens)
        elif fault == 3:
            lines[place] = lines[place][: chance.randrange(len(lines[place]) + 1)]
        else:
            lines.insert(place, chance.choice(words))
    return "\n".join(lines)


CIF = """data_x
_cell_length_a 6.29
_cell_length_b 6.29
_cell_length_c 6.29
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P m -3 m'
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Cs 0.5 0.5 0.5
Pb 0 0 0
I 0.5 0 0
"""
CIF_WORDS = (
    "nan", "inf", "1e400", "-1", "0", "?", ".", "'", ";", "loop_", "data_", "_cell_length_a", "1e9",
    "_atom_site_occupancy", "_space_group_symop_operation_xyz 'x,y,z'", "Xx", "1e-9", "180", "\0",
    "_atom_site_U_iso_or_equiv", "'x,x,x'", "\u03b1", "0.5(99)", "#", "save_", "global_",
)  # fmt: skip


@fuzzed
@given(chances)
def test_a_cif_is_a_structure_or_refused(
    tmp_path_factory: pytest.TempPathFactory, chance: Random
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.cif"
    path.write_text(changed_text(CIF, chance, CIF_WORDS), encoding="utf-8")
    try:
        structure = read_structure(path, q_max=2.0)
    except StructureFileError:
        return
    assert np.isfinite(structure.reflections.q).all()
    assert np.isfinite(structure.reflections.intensity).all()


PONI = """poni_version: 2.1
Detector: Detector
Detector_config: {"pixel1": 1e-4, "pixel2": 1e-4, "max_shape": [300, 400], "orientation": 3}
Distance: 0.2
Poni1: 0.01
Poni2: 0.02
Rot1: 0
Rot2: 0
Rot3: 0
Wavelength: 1e-10
"""
PONI_WORDS = (
    "nan", "inf", "-1", "0", "1e400", "{}", "[]", "null", "Pilatus1M", "Eiger4M", "99", "3", "\0",
    '{"pixel1": -1}', '{"filename": "/etc/passwd"}', '{"max_shape": [0, 0]}', "NexusDetector", ":",
)  # fmt: skip


@fuzzed
@given(chances)
@pytest.mark.filterwarnings("ignore")
def test_a_poni_is_a_calibration_or_refused(
    tmp_path_factory: pytest.TempPathFactory, chance: Random
) -> None:
    path = tmp_path_factory.getbasetemp() / f"fuzz{chance.randrange(10**9)}.poni"
    path.write_text(changed_text(PONI, chance, PONI_WORDS), encoding="utf-8")
    try:
        assert isinstance(read_poni(path), Poni)
    except GeometryError:
        pass
    finally:
        path.unlink()


@fuzzed
@given(chances)
def test_an_hdf5_file_is_images_or_refused(
    tmp_path_factory: pytest.TempPathFactory, chance: Random
) -> None:
    """Chance links, attributes and datasets; nothing from outside the root is ever read."""
    base = tmp_path_factory.getbasetemp()
    root = base / "root"
    root.mkdir(exist_ok=True)
    with h5py.File(base / "secret.h5", "w") as file:
        file["d"] = np.full((1, 16, 16), 77, "u2")
    path = root / "fuzz.h5"
    with h5py.File(path, "w", libver="latest") as file:
        _fill(file, chance)
    access = FileAccess((root.resolve(),), {})
    reader = FrameReader(access)
    for name in ("", "/d", "/entry/data/data", "/a/b"):
        try:
            found = open_image_file(path, name, access)
            image = reader.read(Hdf5Image(str(path), found.dataset, 0))
        except GixiError:
            continue
        assert not (image == 77).any()


def _fill(file: h5py.File, chance: Random) -> None:
    places = ["d", "entry", "entry/data", "entry/data/data", "a", "a/b", "c"]
    targets = ["/", ".", "..", "/d", "/entry", "/entry/data/data", "a/b", "/nothing", "c"]
    files = ["../secret.h5", "fuzz.h5", ".", "", "nothing.h5", "/dev/null", "\u03b1%b.h5"]
    for _ in range(chance.randrange(1, 8)):
        place, kind = chance.choice(places), chance.randrange(7)
        try:
            if kind == 0:
                file[place] = h5py.SoftLink(chance.choice(targets))
            elif kind == 1:
                file[place] = h5py.ExternalLink(chance.choice(files), chance.choice(targets))
            elif kind == 2:
                layout = h5py.VirtualLayout((1, 16, 16), "u2")
                source = chance.choice(files), chance.choice(["d", "/entry/data/data"])
                layout[:] = h5py.VirtualSource(*source, shape=(1, 16, 16))
                file.create_virtual_dataset(place, layout)
            elif kind == 3:
                outside = [("../secret.h5", 0, 512)]
                file.create_dataset(place, (1, 16, 16), "u2", external=outside)
            elif kind == 4:
                file.attrs[chance.choice(["default", "signal"])] = chance.choice(
                    [*targets, 3, [1.0], b"\xff", np.zeros((3, 3))]
                )
            elif kind == 5:
                shape = chance.choice([(), (0,), (1, 16, 16), (16, 16), (0, 16, 16), (2,) * 6])
                file.create_dataset(place, shape, chance.choice(["u2", "S5", "f8", "?"]))
            else:
                file.require_group(place)
        except (ValueError, OSError, TypeError, KeyError, RuntimeError):
            continue  # a place that is taken


@slowly_fuzzed
@given(chances)
def test_a_damaged_spool_gives_what_was_put_in_or_nothing(
    tmp_path_factory: pytest.TempPathFactory, chance: Random
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.spool"
    path.unlink(missing_ok=True)
    put = [{"uid": f"d{number}", "n": number} for number in range(8)]
    spool = SpoolFile(path, {"uid": "run"})
    for doc in put:
        spool.append("stop", doc)
    spool.close()
    content = bytearray(path.read_bytes())
    for _ in range(chance.randrange(1, 5)):
        place, fault = chance.randrange(len(content)), chance.randrange(3)
        if fault == 0:
            content[place] ^= 1 << chance.randrange(8)
        elif fault == 1:
            content[place:place] = bytes(chance.randrange(256) for _ in range(40))
        else:
            del content[place : place + chance.randrange(1, 40)]
    path.write_bytes(bytes(content))
    spool = SpoolFile(path)
    found = [record.doc for record in spool.records() if record.name == "stop"]
    spool.close()
    places = [put.index(doc) for doc in found]  # raises for what was never put in
    assert places == sorted(places)
