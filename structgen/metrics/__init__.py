"""Measures of structures against each other, in numpy."""
