"""Checks before the work: configs, data, and what was found."""
