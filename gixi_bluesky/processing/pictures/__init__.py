"""Pictures of single frames and of their cuts, drawn without a display."""
