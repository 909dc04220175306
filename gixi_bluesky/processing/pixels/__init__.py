"""Detector pixels before the remap: masks, darks and flats, counts, noise, summed exposures."""
