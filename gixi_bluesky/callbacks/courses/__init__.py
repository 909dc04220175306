"""Courses of tracks measured in a process of their own, beside the scan."""
