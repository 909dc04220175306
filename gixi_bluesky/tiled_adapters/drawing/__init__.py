"""Figures of derived runs, drawn without a display."""
