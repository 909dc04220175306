"""Geometry of detector pixels in reciprocal space: instrument, calibration files and grids."""
