"""Crystal structures from CIF files, with their powder lines."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import gemmi
import numpy as np
from numpy.typing import NDArray

from gixi_bluesky.errors import StructureFileError
from gixi_bluesky.processing.structures.reflections import Lines, powder_lines

__all__ = ["Lines", "Structure", "read_structure", "read_structures", "shipped_cifs"]

LARGEST_FILE = 32 * 2**20  # bytes; a CIF above this is no structure for a powder search
LARGEST_LINE_COUNT = 200_000  # families below q_max; beyond it the search would not end
DEFAULT_U_ISO = 1.0 / (8 * math.pi**2)  # B = 1 angstrom², for atoms without displacement
SAME_PLACE = 1e-3  # fractional; images nearer than this are one atom on a special position
LONGEST_SLUG = 60


@dataclass(frozen=True, slots=True)
class Structure:
    """A candidate phase.

    name: as people write it; slug: the same as a safe key of letters, digits, - and _
    sha256: of the CIF's content
    cell: a, b, c in angstrom and alpha, beta, gamma in deg
    """

    name: str
    slug: str
    sha256: str
    cell: tuple[float, float, float, float, float, float]
    reflections: Lines


def shipped_cifs() -> dict[str, Path]:
    """Return the CIFs that come with the package, by name."""
    folder = Path(str(resources.files("gixi_bluesky.processing") / "cifs"))
    return {path.stem: path for path in sorted(folder.glob("*.cif"))}


def read_structures(paths: Iterable[Path], q_max: float) -> tuple[Structure, ...]:
    """Read CIF files and folders of them; the same content twice is one structure.

    Slugs are unique: the second structure of a name ends in -2.
    """
    found: dict[str, Structure] = {}
    slugs: set[str] = set()
    for path in _files(paths):
        structure = read_structure(path, q_max)
        if structure.sha256 in found:
            continue
        slug = _unused(structure.slug, slugs)
        slugs.add(slug)
        found[structure.sha256] = dataclasses.replace(structure, slug=slug)
    return tuple(found.values())


def read_structure(path: Path, q_max: float) -> Structure:
    """Read one CIF and calculate its powder lines up to q_max (1/angstrom).

    Raises StructureFileError when the file cannot be read, or has no cell, no symmetry, no atoms
    or no line below q_max.
    """
    content = _content(path)
    block = _block(content, path)
    small = _small_structure(block, path)
    families = 4 / 3 * math.pi * q_max**3 * small.cell.volume / (2 * math.pi) ** 3 / 2
    if families > LARGEST_LINE_COUNT:
        raise StructureFileError(
            f"{path}: a cell of {small.cell.volume:.0f} angstrom³ has about {families:.0f} "
            f"reflections below {q_max} 1/angstrom, at most {LARGEST_LINE_COUNT} are searched; "
            "lower grid.q_max_inv_angstrom or leave this CIF out"
        )
    lines = powder_lines(small, q_max)
    if not len(lines):
        raise StructureFileError(
            f"{path}: no reflection below {q_max} 1/angstrom; check the cell, the occupancies and "
            "grid.q_max_inv_angstrom"
        )
    name = _name(block, path)
    return Structure(
        name=name,
        slug=_slug(name),
        sha256=hashlib.sha256(content).hexdigest(),
        cell=tuple(small.cell.parameters),
        reflections=lines,
    )


def _files(paths: Iterable[Path]) -> list[Path]:
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() == ".cif")
            if not inside:
                raise StructureFileError(f"{path}: a folder without *.cif files; add some")
            files += inside
        else:
            files.append(path)
    return files


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise StructureFileError(
                f"{path}: {path.stat().st_size} bytes, at most {LARGEST_FILE} are read; "
                "give the CIF without its embedded reflection data"
            )
        return path.read_bytes()
    except OSError as error:
        raise StructureFileError(
            f"{path}: cannot be read ({error.strerror}); give the path of a CIF file"
        ) from error


def _block(content: bytes, path: Path) -> gemmi.cif.Block:
    """Return the first data block that has atoms, else the first one."""
    try:
        document = gemmi.cif.read_string(content.decode("utf-8-sig", errors="replace"))
    except (ValueError, RuntimeError) as error:
        raise StructureFileError(
            f"{path}: not a CIF ({error}); export it again or repair that line"
        ) from error
    if not len(document):
        raise StructureFileError(f"{path}: no data block; a CIF begins with `data_name`")
    with_atoms = (b for b in document if b.find_values("_atom_site_fract_x"))
    return next(with_atoms, document[0])


def _small_structure(block: gemmi.cif.Block, path: Path) -> gemmi.SmallStructure:
    """Return the structure with symmetry set and occupancies as structure factors need them."""
    small = gemmi.make_small_structure_from_block(block)
    if not small.cell.is_crystal():
        raise StructureFileError(
            f"{path}: no unit cell; _cell_length_a … _cell_angle_gamma must be given"
        )
    _set_symmetry(small, path)
    atoms = [site for site in small.sites if _usable(site)]
    if not atoms:
        raise StructureFileError(
            f"{path}: no atoms with an element and coordinates; the _atom_site_ loop must hold "
            "_atom_site_label or _type_symbol and _atom_site_fract_x, _y, _z"
        )
    crystal = gemmi.SmallStructure()
    crystal.cell, crystal.spacegroup = small.cell, small.spacegroup
    for site in atoms:
        if not site.u_iso > 0 and not site.aniso.nonzero():
            site.u_iso = DEFAULT_U_ISO
        crystal.add_site(site)
    crystal.setup_cell_images()
    crystal.change_occupancies_to_crystallographic()
    return crystal


def _set_symmetry(small: gemmi.SmallStructure, path: Path) -> None:
    """Set the space group; a setting without a name becomes P 1 with every atom written out."""
    if small.symops:
        small.determine_and_set_spacegroup("S")
        if small.spacegroup is None:
            _expand(small)
        return
    small.determine_and_set_spacegroup("H21N")
    if small.spacegroup is None:
        got = small.spacegroup_hm or small.spacegroup_hall or small.spacegroup_number or "none"
        raise StructureFileError(
            f"{path}: space group not understood (got {got}); give "
            "_space_group_symop_operation_xyz or a standard _space_group_name_H-M_alt"
        )


def _expand(small: gemmi.SmallStructure) -> None:
    asymmetric = [site.clone() for site in small.sites]
    small.sites.clear()
    for site in asymmetric:
        site.aniso = gemmi.SMat33d(0, 0, 0, 0, 0, 0)  # would turn with the operation
        origin = site.fract.tolist()
        places: list[NDArray[np.float64]] = []
        for triplet in small.symops:
            place = np.array(gemmi.Op(triplet).apply_to_xyz(origin))
            if any(np.abs((place - p + 0.5) % 1 - 0.5).max() < SAME_PLACE for p in places):
                continue
            places.append(place)
            site.fract = gemmi.Fractional(*place)
            small.add_site(site.clone())
    small.spacegroup = gemmi.SpaceGroup("P 1")


def _usable(site: gemmi.SmallStructure.Site) -> bool:
    placed = all(math.isfinite(x) for x in site.fract.tolist())
    return placed and site.element.atomic_number > 0 and site.occ > 0


def _name(block: gemmi.cif.Block, path: Path) -> str:
    for tag in ("_chemical_name_common", "_chemical_formula_structural", "_chemical_formula_sum"):
        value = gemmi.cif.as_string(block.find_value(tag) or "?").strip()
        if value:
            return " ".join(value.split())
    return path.stem


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:LONGEST_SLUG] or "phase"


def _unused(slug: str, taken: set[str]) -> str:
    number = 1
    candidate = slug
    while candidate in taken:
        number += 1
        candidate = f"{slug}-{number}"
    return candidate
