"""Courses of tracks, measured in a separate process beside the scan."""
