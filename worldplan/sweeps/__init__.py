"""Sweeps: jobs that are done once, on the cores of one machine or on a Ray cluster."""
