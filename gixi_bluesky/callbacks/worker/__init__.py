"""Frames analysed in another process: queue, jobs, supervision."""
