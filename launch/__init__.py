"""Machines and people: Ray workers, the driver loop, the command line, progress and tables."""
