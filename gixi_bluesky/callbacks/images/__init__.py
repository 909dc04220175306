"""Where the pixels of a frame are stored, and reading them within bounds."""
