"""Consumers as Slurm jobs: the batch script, submission and status."""
