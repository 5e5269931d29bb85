"""An SE(3)-equivariant network that moves atoms, built on e3nn (optional: `pip install structgen[equivariant]`).

Importing `layers` or `head` raises `ConfigError` where e3nn is not installed.
"""
