"""Crystal structures from CIF files, with their powder lines."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import gemmi

from gixi_bluesky.errors import StructureFileError
from gixi_bluesky.log import get_logger
from gixi_bluesky.processing.structures.cif_text import cif_blocks, cif_content
from gixi_bluesky.processing.structures.crystals import crystal_of
from gixi_bluesky.processing.structures.reflections import Lines, powder_lines
from gixi_bluesky.processing.structures.stored_lines import stored_lines

__all__ = [
    "Candidates",
    "Lines",
    "Structure",
    "read_candidates",
    "read_structure",
    "read_structures",
    "shipped_cifs",
]

LARGEST_LINE_COUNT = 200_000  # families below q_max; beyond it the search would not end
LARGEST_WORK = 3e8  # atoms in the cell times families; half a minute
LONGEST_SLUG = 60
_LINES_KEPT = 512
_lines: dict[tuple[str, str, float], Lines] = {}
_log = get_logger()


@dataclass(frozen=True, slots=True)
class Structure:
    """A candidate phase.

    name: as people write it; slug: the same as a safe key of letters, digits, - and _
    sha256: of the CIF's content
    cell: a, b, c in angstrom and alpha, beta, gamma in deg
    doubts: what the file contradicts itself in, or what was read with leniency
    crystal_system: of the space group, "" = unknown
    """

    name: str
    slug: str
    sha256: str
    cell: tuple[float, float, float, float, float, float]
    reflections: Lines
    doubts: tuple[str, ...] = ()
    crystal_system: str = ""


def shipped_cifs() -> dict[str, Path]:
    """Return the CIFs that come with the package, by name."""
    folder = Path(str(resources.files("gixi_bluesky.processing") / "cifs"))
    return {path.stem: path for path in sorted(folder.glob("*.cif"))}


@dataclass(frozen=True, slots=True)
class Candidates:
    """The structures that were read from some files, and a line on each that was left out."""

    structures: tuple[Structure, ...]
    left_out: tuple[str, ...]


def read_structures(paths: Iterable[Path], q_max: float) -> tuple[Structure, ...]:
    """Read CIF files and folders of them, and log what is doubtful or left out.

    The same content twice is one structure, and each block with atoms is one. Slugs are unique.
    Raises StructureFileError when no structure is left of the files that were given.
    """
    candidates = read_candidates(paths, q_max)
    for reason in candidates.left_out:
        _log.warning("structure_left_out", reason=reason)
    for structure in candidates.structures:
        for doubt in structure.doubts:
            _log.warning("structure_doubtful", structure=structure.name, reason=doubt)
    return candidates.structures


def read_candidates(paths: Iterable[Path], q_max: float) -> Candidates:
    """Read CIF files and folders of them, as `read_structures` does, without a log.

    Raises StructureFileError when no structure is left of the files that were given.
    """
    found: dict[tuple[str, str], tuple[Path, Structure]] = {}
    left_out: list[str] = []
    files = _files(paths)
    for path in files:
        try:
            structures = _structures_of(path, q_max, left_out)
        except StructureFileError as error:
            left_out.append(str(error))
            continue
        for block, structure in structures:
            found.setdefault((structure.sha256, block), (path, structure))
    if files and not found:
        raise StructureFileError("\n".join(left_out))
    return Candidates(_named_apart(found), tuple(left_out))


def read_structure(path: Path, q_max: float) -> Structure:
    """Read the first structure of a CIF and calculate its powder lines up to q_max (1/angstrom).

    Raises StructureFileError when the file cannot be read, or has no cell, no symmetry, no atoms
    or no line below q_max.
    """
    content = cif_content(path)
    blocks, doubts = cif_blocks(content, path)
    return _structure(content, blocks[0], path, q_max, doubts)


def _structures_of(path: Path, q_max: float, left_out: list[str]) -> list[tuple[str, Structure]]:
    """Return (block name, structure) of each block with atoms; a bad one of several is left out."""
    content = cif_content(path)
    blocks, doubts = cif_blocks(content, path)
    found = []
    for block in blocks:
        try:
            found.append((block.name, _structure(content, block, path, q_max, doubts)))
        except StructureFileError as error:
            if len(blocks) == 1:
                raise
            left_out.append(f"block {block.name}: {error}")
    return found


def _structure(
    content: bytes, block: gemmi.cif.Block, path: Path, q_max: float, doubts: tuple[str, ...]
) -> Structure:
    sha256 = hashlib.sha256(content).hexdigest()
    try:
        small, more = crystal_of(block, path)
    except StructureFileError:
        raise
    except (ValueError, RuntimeError, IndexError, TypeError) as error:
        message = f"{path}: {error}; correct that entry"
        raise StructureFileError(message) from error
    key = (sha256, block.name, q_max)
    if key not in _lines:
        _lines[key] = stored_lines(key, lambda: _powder_lines(small, path, q_max))
        while len(_lines) > _LINES_KEPT:
            del _lines[next(iter(_lines))]
    name = _name(block, path)
    return Structure(
        name=name,
        slug=_slug(name),
        sha256=sha256,
        cell=tuple(small.cell.parameters),
        reflections=_lines[key],
        doubts=(*doubts, *more),
        crystal_system=_crystal_system(small),
    )


def _crystal_system(small: gemmi.SmallStructure) -> str:
    """Return the space group's system; P 1 may stand for a setting without a name."""
    group = small.spacegroup
    return "" if group is None or group.number == 1 else str(group.crystal_system_str())


def _powder_lines(small: gemmi.SmallStructure, path: Path, q_max: float) -> Lines:
    families = 4 / 3 * math.pi * q_max**3 * small.cell.volume / (2 * math.pi) ** 3 / 2
    if families > LARGEST_LINE_COUNT:
        raise StructureFileError(
            f"{path}: a cell of {small.cell.volume:.0f} angstrom³ has about {families:.0f} "
            f"reflections below {q_max} 1/angstrom, at most {LARGEST_LINE_COUNT} are searched; "
            "lower grid.q_max_inv_angstrom or leave this CIF out"
        )
    operations = len(list((small.spacegroup or gemmi.SpaceGroup("P 1")).operations()))
    work = families / operations * len(small.sites) * operations
    if work > LARGEST_WORK:
        raise StructureFileError(
            f"{path}: {len(small.sites)} atoms with {families / operations:.0f} reflections take "
            "too long to calculate; lower grid.q_max_inv_angstrom or leave this CIF out"
        )
    lines = powder_lines(small, q_max)
    if not len(lines):
        raise StructureFileError(
            f"{path}: no reflection below {q_max} 1/angstrom; check the cell, the occupancies and "
            "grid.q_max_inv_angstrom"
        )
    return lines


def _named_apart(found: Mapping[tuple[str, str], tuple[Path, Structure]]) -> tuple[Structure, ...]:
    """Return the structures; those of one name are distinguished by their files or blocks."""
    names = Counter(structure.name for _, structure in found.values())
    files = Counter((structure.name, path.stem) for path, structure in found.values())
    structures = []
    slugs: set[str] = set()
    for (_, block), (path, structure) in found.items():
        name = structure.name
        if names[name] > 1:
            name = f"{name} ({path.stem if files[name, path.stem] == 1 else block})"
        slug = _unused(_slug(name), slugs)
        slugs.add(slug)
        structures.append(dataclasses.replace(structure, name=name, slug=slug))
    return tuple(structures)


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
