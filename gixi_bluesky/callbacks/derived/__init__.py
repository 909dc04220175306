"""The derived run: its documents, tables, arrays and summary, and the stores they go to."""
