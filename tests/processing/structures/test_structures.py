"""Structures against extinction rules, published powder intensities and a sum over all atoms."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import defaultdict
from pathlib import Path

import gemmi
import numpy as np
import pytest

from gixi_bluesky.errors import StructureFileError
from gixi_bluesky.processing.structures.cif_files import (
    Lines,
    Structure,
    read_structure,
    read_structures,
    shipped_cifs,
)

CIFS = Path(__file__).parents[2] / "data" / "cifs"
COPPER_K_ALPHA = 1.5418  # angstrom

CUBIC_CELL = """
_cell_length_a 4
_cell_length_b 4
_cell_length_c 4
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
"""
TINY_CELL, HUGE_CELL = CUBIC_CELL.replace("4", "1.1"), CUBIC_CELL.replace("4", "400")
ONE_ATOM = """
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Po1 0 0 0
"""
CUBIC_GROUP = "_space_group_name_H-M_alt 'P m -3 m'\n"


def odd_cif(name: str, q_max: float = 6.0) -> Structure:
    return read_structure(CIFS / f"{name}.cif", q_max)


def families(structure: Structure) -> set[tuple[int, int, int]]:
    return {family for line in structure.reflections.families for family in line}


def multiplicities(lines: Lines) -> dict[tuple[int, int, int], int]:
    return {f[0]: int(m) for f, m in zip(lines.families, lines.multiplicity, strict=True)}


def laboratory_intensities(structure: Structure) -> dict[tuple[int, int, int], float]:
    """Powder card intensities, strongest 100: per 2 theta, with an unpolarised tube."""
    lines = structure.reflections
    theta = np.arcsin(lines.q * COPPER_K_ALPHA / (4 * np.pi))
    card = lines.intensity * (1 + np.cos(2 * theta) ** 2) / np.cos(theta)
    card *= 100 / card.max()
    return {tuple(map(int, hkl)): float(i) for hkl, i in zip(lines.hkl, card, strict=True)}


def sum_over_atoms(path: Path, q_max: float) -> dict[float, float]:
    """Return |F|²/q² summed over every hkl of the sphere, from all atoms of the cell."""
    small = gemmi.read_small_structure(str(path))
    atoms = small.get_all_unit_cell_sites()
    place = np.array([site.fract.tolist() for site in atoms])
    edges = np.array(small.cell.orth.mat.tolist())  # columns are a, b, c
    reciprocal = 2 * np.pi * np.linalg.inv(edges)
    reach = [int(q_max * np.linalg.norm(edges[:, i]) / (2 * np.pi)) for i in range(3)]
    total: dict[float, float] = defaultdict(float)
    for hkl in itertools.product(*(range(-n, n + 1) for n in reach)):
        q = float(np.linalg.norm(hkl @ reciprocal))
        if not 0 < q <= q_max:
            continue
        stol2 = (q / (4 * np.pi)) ** 2
        warmth = 8 * np.pi**2 * stol2
        factors = [
            site.occ * site.element.it92.calculate_sf(stol2) * np.exp(-warmth * site.u_iso)
            for site in atoms
        ]
        amplitude = np.sum(factors * np.exp(2j * np.pi * (place @ hkl)))
        total[round(q, 6)] += abs(amplitude) ** 2 / q**2
    return total


@pytest.mark.parametrize("name", shipped_cifs())
def test_lines_equal_the_sum_over_all_atoms_of_the_cell(name: str) -> None:
    path = shipped_cifs()[name]
    reference = sum_over_atoms(path, 3.0)
    strongest = max(reference.values())
    expected = {q: i / strongest for q, i in reference.items() if i / strongest > 2e-4}
    lines = read_structure(path, 3.0).reflections
    found = {q: i for q, i in zip(lines.q, lines.intensity, strict=True) if i > 2e-4}
    assert sorted(found) == pytest.approx(sorted(expected), abs=2e-6)
    assert [found[q] for q in sorted(found)] == pytest.approx(
        [expected[q] for q in sorted(expected)], rel=2e-3, abs=2e-5
    )


def test_silicon_agrees_with_its_powder_card() -> None:
    # card 5-565 of the powder diffraction file, measured
    card = {
        (1, 1, 1): 100, (2, 2, 0): 60, (3, 1, 1): 35, (4, 0, 0): 8,
        (3, 3, 1): 13, (4, 2, 2): 17, (5, 1, 1): 9, (4, 4, 0): 5, (5, 3, 1): 11,
    }  # fmt: skip
    found = laboratory_intensities(odd_cif("silicon", 7.0))
    for hkl, intensity in card.items():
        assert found[hkl] == pytest.approx(intensity, abs=5.0), hkl


def test_halite_adds_its_ions_in_even_lines_and_subtracts_them_in_odd_ones() -> None:
    found = laboratory_intensities(odd_cif("halite"))
    order = sorted(found, key=found.__getitem__, reverse=True)
    assert order[:3] == [(2, 0, 0), (2, 2, 0), (2, 2, 2)]
    # 18 and 10 electrons: card 5-628 has 13 for 111
    assert found[1, 1, 1] == pytest.approx(13, abs=5)


def test_centrings_and_glides_forbid_what_they_must() -> None:
    assert all(sum(hkl) % 2 == 0 for hkl in families(odd_cif("iron")))
    assert all(len({index % 2 for index in hkl}) == 1 for hkl in families(odd_cif("halite")))
    silicon = families(odd_cif("silicon", 7.0))
    assert (1, 1, 1) in silicon
    assert not silicon & {(2, 0, 0), (2, 2, 2), (4, 2, 0)}


@pytest.mark.parametrize(("name", "a"), [("MAPbBr3", 5.9328), ("LaB6", 4.156826)])
def test_cubic_lines_lie_where_the_cell_says(name: str, a: float) -> None:
    structure = read_structure(shipped_cifs()[name], 3.9)
    hkl = structure.reflections.hkl
    assert structure.reflections.q == pytest.approx(
        2 * np.pi * np.sqrt((hkl**2).sum(axis=1)) / a, rel=1e-6
    )
    assert (np.diff(hkl, axis=1) <= 0).all(), "cubic hkl are given as h ≥ k ≥ l ≥ 0"
    assert (hkl >= 0).all()
    assert structure.cell == pytest.approx((a, a, a, 90, 90, 90))


def test_multiplicities_of_cubic_and_trigonal_families() -> None:
    cubic = read_structure(shipped_cifs()["MAPbBr3"], 3.9).reflections
    found = multiplicities(cubic)
    known = {(1, 0, 0): 6, (1, 1, 0): 12, (1, 1, 1): 8, (2, 1, 0): 24, (2, 1, 1): 24}
    assert known.items() <= found.items()
    assert found[2, 2, 1] == 24 + 6, "300 and 221 share a line"
    assert set(cubic.families[list(found).index((2, 2, 1))]) == {(3, 0, 0), (2, 2, 1)}
    found = multiplicities(read_structure(shipped_cifs()["PbI2"], 3.9).reflections)
    assert found[0, 0, 1] == 2
    assert found[1, 1, 0] == 6
    assert found[0, 1, 1] == 6, "101 has the same q but another, here negligible, |F|"


def test_lines_are_sorted_and_normalised() -> None:
    for path in shipped_cifs().values():
        lines = read_structure(path, 3.9).reflections
        assert (np.diff(lines.q) > 0).all()
        assert lines.q.max() <= 3.9
        assert lines.intensity.max() == pytest.approx(1.0)
        assert (lines.intensity > 0).all()


def test_a_setting_without_a_name_gives_the_lines_of_its_atoms() -> None:
    moved = odd_cif("moved_origin").reflections
    edge = 2 * np.pi / 4.123
    squares = np.rint((moved.q / edge) ** 2).astype(int)
    assert squares.tolist()[:6] == [1, 2, 3, 4, 5, 6]
    # even h+k+l: f(Cs) + f(Cl); odd: f(Cs) - f(Cl)
    assert moved.intensity[1] == moved.intensity.max()
    assert moved.multiplicity.tolist()[:3] == [6, 12, 8]


def test_numbers_with_errors_missing_occupancies_and_missing_places_are_understood() -> None:
    assert odd_cif("silicon").cell[0] == pytest.approx(5.4312)
    assert odd_cif("iron").reflections.q[0] == pytest.approx(2 * np.pi * np.sqrt(2) / 2.8665)


def test_names_and_slugs() -> None:
    for name, path in shipped_cifs().items():
        structure = read_structure(path, 3.0)
        assert structure.name == structure.slug == name
        assert structure.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert odd_cif("halite").name == "Rock salt: NaCl"
    assert odd_cif("halite").slug == "Rock-salt-NaCl"
    assert odd_cif("silicon").slug == "silicon", "without a name the file's name serves"
    assert odd_cif("iron").slug == "Fe"


def test_many_files_and_folders_give_unique_slugs_and_no_doubles(tmp_path: Path) -> None:
    original = shipped_cifs()["LaB6"].read_text()
    (tmp_path / "a.cif").write_text(original)
    (tmp_path / "same.cif").write_text(original)
    (tmp_path / "z.CIF").write_text(original.replace("4.156826", "4.2"))
    (tmp_path / "notes.txt").write_text("no structure")
    found = read_structures([tmp_path, tmp_path / "a.cif"], 3.0)
    assert [s.slug for s in found] == ["LaB6-a", "LaB6-z"]
    assert [s.name for s in found] == ["LaB6 (a)", "LaB6 (z)"]
    assert found[1].cell[0] == pytest.approx(4.2)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", s.slug) for s in found)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("hello", "not a CIF"),
        ("", "no data block"),
        ("data_x\n" + CUBIC_GROUP + ONE_ATOM, "no unit cell"),
        ("data_x\n" + CUBIC_CELL + CUBIC_GROUP, "no atoms"),
        ("data_x\n" + CUBIC_CELL + CUBIC_GROUP + ONE_ATOM.replace("Po1 0", "Po1 ?"), "no atoms"),
        ("data_x\n" + CUBIC_CELL + ONE_ATOM, "space group not understood"),
        ("data_x\n" + HUGE_CELL + CUBIC_GROUP + ONE_ATOM, "reflections below"),
        (
            "data_x\n" + TINY_CELL + CUBIC_GROUP + ONE_ATOM,
            "no reflection below",
        ),
    ],
)
def test_an_unusable_cif_says_what_is_wrong(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "odd.cif"
    path.write_text(text)
    with pytest.raises(StructureFileError, match=reason) as caught:
        read_structure(path, 4.0)
    assert "odd.cif" in str(caught.value)


def test_a_missing_file_and_an_empty_folder_say_so(tmp_path: Path) -> None:
    with pytest.raises(StructureFileError, match="cannot be read"):
        read_structure(tmp_path / "absent.cif", 4.0)
    with pytest.raises(StructureFileError, match="folder without"):
        read_structures([tmp_path], 4.0)


def test_atoms_of_the_shipped_structures_keep_their_distances() -> None:
    """No pair of heavy atoms is nearer than its bond."""
    for path in shipped_cifs().values():
        small = gemmi.read_small_structure(str(path))
        heavy = [s for s in small.get_all_unit_cell_sites() if s.element.atomic_number > 30]
        edges = np.array(small.cell.orth.mat.tolist())
        shifts = np.array(list(itertools.product((-1, 0, 1), repeat=3)))
        for a, b in itertools.product(heavy, repeat=2):
            apart = np.array(a.fract.tolist()) - np.array(b.fract.tolist()) + shifts
            distances = np.linalg.norm(apart @ edges.T, axis=1)
            assert distances[distances > 1e-6].min() > 2.8, (path.stem, a.label, b.label)
