"""Comparisons with other packages, each in an environment that has both; no part of the tests."""
