"""Bluesky documents in, derived runs out."""
