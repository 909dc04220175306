"""Locations of the pixels of a frame, and readers with bounds."""
