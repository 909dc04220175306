"""The text of a CIF: read within bounds, and parsed with leniency for harmless faults."""

from __future__ import annotations

from pathlib import Path

import gemmi

from gixi_bluesky.errors import StructureFileError
from gixi_bluesky.provenance import open_regular

__all__ = ["LARGEST_FILE", "cif_blocks", "cif_content"]

LARGEST_FILE = 32 * 2**20  # bytes; a CIF above this is no structure for a powder search


def cif_content(path: Path) -> bytes:
    """Return the content of a file. Raises StructureFileError where it cannot be read."""
    try:
        with open_regular(path) as file:
            content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise StructureFileError(
                f"{path}: more than {LARGEST_FILE} bytes, which are not read; "
                "give the CIF without its embedded reflection data"
            )
        return content
    except OSError as error:
        raise StructureFileError(
            f"{path}: cannot be read ({error.strerror}); give the path of a CIF file"
        ) from error


def cif_blocks(content: bytes, path: Path) -> tuple[list[gemmi.cif.Block], tuple[str, ...]]:
    """Return the data blocks that have atoms, else the first one, and what is doubtful."""
    text = content.decode("utf-8-sig", errors="replace")
    doubts: list[str] = []
    try:
        document = gemmi.cif.read_string(text, check_level=0)
    except (ValueError, RuntimeError) as error:
        document = _read_as_ascii(text, path, error)
        doubts.append("holds characters outside of ASCII, which CIF does not allow")
    if not len(document):
        raise StructureFileError(f"{path}: no data block; a CIF begins with `data_name`")
    try:
        gemmi.cif.read_string(document.as_string())
    except (ValueError, RuntimeError) as error:
        doubts.append(f"{str(error).split(': ')[-1]}; the first of each is used")
    with_atoms = [block for block in document if block.find_values("_atom_site_fract_x")]
    return with_atoms or [document[0]], tuple(doubts)


def _read_as_ascii(text: str, path: Path, error: Exception) -> gemmi.cif.Document:
    """Parse a file of which the letters outside of ASCII may be what the parser refused."""
    if not text.isascii():
        plain = text.encode("ascii", errors="replace").decode("ascii")
        try:
            return gemmi.cif.read_string(plain, check_level=0)
        except (ValueError, RuntimeError) as other:
            error = other
    message = f"{path}: not a CIF ({error}); export it again or repair that line"
    raise StructureFileError(message) from error
