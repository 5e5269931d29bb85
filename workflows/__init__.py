"""The work on machines: the only package that imports Ray."""
