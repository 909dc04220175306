"""Crystal structures from CIF files, and the powder lines they give."""

from gixi_bluesky.processing.structures.cif_files import Structure, read_structure, shipped_cifs

__all__ = ["Structure", "read_structure", "shipped_cifs"]
