"""Child processes: start, limits, supervision, shared memory."""
