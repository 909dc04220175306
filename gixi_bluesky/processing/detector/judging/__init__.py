"""All boxes of a frame judged together: whole rings instead of their pieces, no false ones."""
