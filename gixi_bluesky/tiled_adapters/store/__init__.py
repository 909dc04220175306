"""Derived runs written into Tiled: claims, tables, images, and the spool while Tiled is away."""
