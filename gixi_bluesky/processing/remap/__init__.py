"""From detector frames to images in reciprocal space, by averaging pixels under footprints."""
