"""CIF files as programs and people write them: read in the obvious way, or refused, or reported."""

from __future__ import annotations

import contextlib
from pathlib import Path

import gemmi
import numpy as np
import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gixi_bluesky.errors import StructureFileError
from gixi_bluesky.processing.structures.cif_files import (
    Structure,
    read_candidates,
    read_structure,
    read_structures,
    shipped_cifs,
)

Q_MAX = 3.5
HEAD = """data_x
_cell_length_a {a}
_cell_length_b {b}
_cell_length_c {c}
_cell_angle_alpha {angle}
_cell_angle_beta {angle}
_cell_angle_gamma {angle}
{more}
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
"""
PEROVSKITE = "Cs 0.5 0.5 0.5 1\nPb 0 0 0 1\nI 0.5 0 0 1\n"
PM3M = "_symmetry_space_group_name_H-M 'P m -3 m'"
ROCK_SALT = "Na 0 0 0 1\nCl 0.5 0.5 0.5 1\n"
FM3M = "_symmetry_space_group_name_H-M 'F m -3 m'"
XYZ = "loop_\n_symmetry_equiv_pos_as_xyz\n'x,y,z'\n"


def cif(
    atoms: str = PEROVSKITE,
    more: str = PM3M,
    a: float = 6.29,
    c: float | None = None,
    angle: float = 90,
) -> str:
    return HEAD.format(a=a, b=a, c=a if c is None else c, angle=angle, more=more) + atoms


def read(folder: Path, text: str, name: str = "t.cif") -> Structure:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return read_structure(path, Q_MAX)


def assert_alike(one: Structure, other: Structure, tolerance: float = 1e-6) -> None:
    np.testing.assert_allclose(one.reflections.q, other.reflections.q, atol=1e-6)
    np.testing.assert_allclose(
        one.reflections.intensity, other.reflections.intensity, atol=tolerance
    )


@pytest.fixture
def perovskite(tmp_path: Path) -> Structure:
    return read(tmp_path, cif(), "plain.cif")


@pytest.mark.parametrize(
    ("more", "doubt"),
    [
        (f"{PM3M}\n_chemical_formula_sum 'Cs I3 Pb'\n_chemical_formula_sum ''", "duplicate"),
        (f"{PM3M}\n_chemical_name_structure_type \u03b1NaFeO2", "outside of ASCII"),
        (f"{PM3M}\n_symmetry_Int_Tables_number '221'", ""),
        (f"{PM3M}\n_symmetry_Int_Tables_number ?", ""),
        (f"{PM3M}\n_symmetry_Int_Tables_number 'P m -3 m'", ""),
        ("_space_group_IT_number 221", ""),
        (f"{PM3M}\n{XYZ}", "all of them are used"),
        (f"{PM3M}\n_symmetry_Int_Tables_number 225", "the file says 225"),
        ("_symmetry_space_group_name_Hall '-P 4 2 3'", ""),
    ],
)
def test_harmless_faults_are_read_and_reported(tmp_path, perovskite, more, doubt):
    found = read(tmp_path, cif(more=more))
    assert_alike(found, perovskite)
    assert bool(found.doubts) == bool(doubt)
    assert doubt in " ".join(found.doubts)


def test_a_duplicate_block_name_is_read(tmp_path, perovskite):
    assert_alike(read(tmp_path, cif() + "\ndata_x\n_note 1\n"), perovskite)


@pytest.mark.parametrize(
    ("atom", "doubt"),
    [
        ("Iap 0.5 0 0 1", "Iap is taken as I"),
        ("I 1/2 0 0 1", ""),
        ("I1- 1/2 0/4 0 1", ""),
    ],
)
def test_atoms_do_not_vanish(tmp_path, perovskite, atom, doubt):
    found = read(tmp_path, cif(PEROVSKITE.replace("I 0.5 0 0 1", atom)))
    assert_alike(found, perovskite)
    assert doubt in " ".join(found.doubts)


@pytest.mark.parametrize("label", ["Wat", "Ow", "OW1", "OH", "HOH1"])
def test_water_is_oxygen_and_not_tungsten(tmp_path, label):
    oxygen = read(tmp_path, cif(f"{PEROVSKITE}O 0.1 0.2 0.3 0.5\n"), "o.cif")
    assert_alike(read(tmp_path, cif(f"{PEROVSKITE}{label} 0.1 0.2 0.3 0.5\n")), oxygen)


def test_a_label_is_read_with_the_formula_in_mind(tmp_path):
    formula = f"{PM3M}\n_chemical_formula_sum 'C2 O1'"
    expected = read(tmp_path, cif("C 0 0 0 1\nO 0.5 0.5 0.5 0.5\n", PM3M), "e.cif")
    found = read(tmp_path, cif("CO1 0 0 0 1\nO 0.5 0.5 0.5 0.5\n", formula))
    assert_alike(found, expected)
    assert "CO1 is taken as C" in " ".join(found.doubts)


def test_atoms_that_cannot_be_read_are_counted(tmp_path):
    found = read(tmp_path, cif(f"{PEROVSKITE}Q1 0.1 0.1 0.1 1\nH1 ? ? ? 1\n"))
    assert "2 atoms are left out: H1 has no place; Q1 names no element" in found.doubts


def test_a_split_site_is_not_divided_twice(tmp_path, perovskite):
    """An iodine 0.19 angstrom off its fourfold axis with occupancy 1/4 is one iodine."""
    split = read(tmp_path, cif(PEROVSKITE.replace("I 0.5 0 0 1", "I 0.5 0.03 0 0.25")))
    np.testing.assert_allclose(split.reflections.q, perovskite.reflections.q, atol=1e-6)
    difference = np.abs(split.reflections.intensity - perovskite.reflections.intensity)
    assert difference.max() < 0.15  # displacements weaken lines; a quarter of the iodine gave 0.44


def test_a_rounded_special_position_stays_one_atom(tmp_path):
    for occupancy in ("1", "0.4"):
        exact, rounded = (
            read(tmp_path, hexagonal(f"S {place} 0.2 {occupancy}\nSe 0 0 0 1\n"))
            for place in ("0.33333333 0.66666667", "0.333 0.667")
        )
        assert_alike(rounded, exact, 1e-2)


def hexagonal(atoms: str) -> str:
    text = cif(atoms, "_symmetry_space_group_name_H-M 'P 3 m 1'", a=4.0, c=7.0)
    return text.replace("_cell_angle_gamma 90", "_cell_angle_gamma 120")


def test_a_molecule_listed_whole_beside_its_symmetry_counts_once(tmp_path):
    inversion = "_symmetry_space_group_name_H-M 'P -1'"
    half = "C1 0.1 0.1 0.1 1\nO1 0.3 0.2 0.1 1\n"
    whole = f"{half}C2 0.9 0.9 0.9 1\nO2 0.7 0.8 0.9 1\n"
    found = read(tmp_path, cif(whole, inversion))
    assert_alike(found, read(tmp_path, cif(half, inversion), "half.cif"))
    assert "2 atoms are listed twice, as images of others (C2, O2)" in " ".join(found.doubts)


def test_mixed_sites_are_no_doubles(tmp_path):
    mixed = PEROVSKITE.replace("I 0.5 0 0 1", "I 0.5 0 0 0.5\nBr 0.5 0 0 0.5")
    assert read(tmp_path, cif(mixed)).doubts == ()


@pytest.mark.parametrize(
    ("formula", "units", "contradicts"),
    [
        ("Cs I3 Pb", "1", False),
        ("Cs I3 Pb", "?", False),
        ("C1 H6 Cs I3 N1 Pb", "1", True),
        ("Cs I3 Pb", "2", True),
        ("Cs I2 Pb", "?", True),
    ],
)
def test_the_atoms_are_compared_with_the_formula(tmp_path, formula, units, contradicts):
    more = f"{PM3M}\n_chemical_formula_sum '{formula}'\n_cell_formula_units_Z {units}"
    doubts = " ".join(read(tmp_path, cif(more=more)).doubts)
    assert ("the atoms make" in doubts) == contradicts, doubts


def test_operations_without_centring_are_those_of_the_named_group(tmp_path):
    expected = read(tmp_path, cif(ROCK_SALT, FM3M), "plain.cif")

    primitive = "\n".join(
        f"'{op.triplet()}'" for op in gemmi.SpaceGroup("F m -3 m").operations().sym_ops
    )
    found = read(
        tmp_path, cif(ROCK_SALT, f"{FM3M}\nloop_\n_symmetry_equiv_pos_as_xyz\n{primitive}\n")
    )
    assert_alike(found, expected)
    assert "48 of the 192 operations" in " ".join(found.doubts)
    only = read(tmp_path, cif(ROCK_SALT, f"{FM3M}\n{XYZ}"), "only.cif")
    assert_alike(only, expected)


def test_a_cell_written_out_beside_a_centred_name_counts_each_atom_once(tmp_path):
    corners = ["0 0 0", "0.5 0.5 0", "0.5 0 0.5", "0 0.5 0.5"]
    moved = ["0.5 0.5 0.5", "0 0 0.5", "0 0.5 0", "0.5 0 0"]
    atoms = "".join(f"Na {p} 1\n" for p in corners) + "".join(f"Cl {p} 1\n" for p in moved)
    found = read(tmp_path, cif(atoms, f"{FM3M}\n{XYZ}"))
    assert_alike(found, read(tmp_path, cif(ROCK_SALT, FM3M), "plain.cif"))


def test_a_rhombohedral_cell_gets_the_rhombohedral_setting(tmp_path):
    by_number, by_name = (
        read(tmp_path, cif("Bi 0.23 0.23 0.23 1\n", more, a=4.75, angle=57.2))
        for more in (
            "_symmetry_Int_Tables_number 166",
            "_symmetry_space_group_name_H-M 'R -3 m:R'",
        )
    )
    assert_alike(by_number, by_name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (cif(c=6.5), "is cubic, but a and c are 6.29 and 6.5"),
        (cif(more="_symmetry_space_group_name_H-M 'P 6/m m m'"), "gamma is 90 deg, not 120"),
        (cif(more=""), "space group not understood"),
        (
            cif(
                more="_symmetry_space_group_name_H-M 'P m -3 m'\n_symmetry_Int_Tables_number 1.5.2"
            ),
            "",
        ),
        (cif("Q 0 0 0 1\n"), "no atoms with an element"),
    ],
)
def test_a_symmetry_that_contradicts_the_cell_is_refused(tmp_path, text, message):
    if not message:
        read(tmp_path, text)
        return
    with pytest.raises(StructureFileError, match=message):
        read(tmp_path, text)


def test_a_bad_file_among_others_is_left_out_with_its_reason(tmp_path):
    (tmp_path / "good.cif").write_text(cif())
    (tmp_path / "far.cif").write_text(cif(a=1.2))
    (tmp_path / "bad.cif").write_text("no CIF at all")
    with structlog.testing.capture_logs() as logs:
        found = read_structures([tmp_path], Q_MAX)
    assert [structure.name for structure in found] == ["good"]
    reasons = " ".join(entry["reason"] for entry in logs)
    assert "far.cif: no reflection below" in reasons
    assert "bad.cif: not a CIF" in reasons
    with pytest.raises(StructureFileError, match=r"(?s)bad\.cif.*far\.cif"):
        read_structures([tmp_path / "bad.cif", tmp_path / "far.cif"], Q_MAX)


def test_every_block_with_atoms_is_a_structure(tmp_path):
    second = cif(ROCK_SALT, FM3M, a=5.64).replace("data_x", "data_salt")
    third = cif(ROCK_SALT, FM3M, a=1.0).replace("data_x", "data_tiny")
    (tmp_path / "both.cif").write_text(f"data_global\n_note 1\n{cif()}\n{second}\n{third}")
    candidates = read_candidates([tmp_path / "both.cif"], Q_MAX)
    assert [s.name for s in candidates.structures] == ["both (x)", "both (salt)"]
    assert len({s.slug for s in candidates.structures}) == 2
    assert "block tiny" in candidates.left_out[0]


def test_shipped_structures_contradict_nothing():
    for path in shipped_cifs().values():
        assert read_structure(path, 3.0).doubts == (), path.name


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.integers(0, 400),
            st.sampled_from(["", "'", "\u00e9", "loop_", "_x 1\n", "?", ".", "-1", "1e400", "\n;"]),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_a_damaged_cif_is_read_or_refused_with_our_own_error(tmp_path, edits):
    text = cif(more=f"{PM3M}\n_chemical_formula_sum 'Cs I3 Pb'")
    for place, what in edits:
        text = text[:place] + what + text[place + 1 :]
    with contextlib.suppress(StructureFileError):
        assert np.isfinite(read(tmp_path, text).reflections.intensity).all()
