"""Where detector pixels lie in reciprocal space: instrument, calibration files and grids."""
