"""From a raw frame to images on the grids, ready for the detector."""
