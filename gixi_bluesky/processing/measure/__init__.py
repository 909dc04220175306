"""Peaks measured in their boxes: position, widths and intensity, with errors."""
