"""Orientation of crystallites: pole figures of rings, and orientation parameters."""
