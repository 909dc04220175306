"""Bluesky documents parsed into frozen types."""
