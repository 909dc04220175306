"""Peaks over time: tracks, forced measurement, onsets, and what only a sum of frames shows."""
