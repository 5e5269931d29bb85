"""Measures of structure: numpy only, coordinates in angstrom."""
