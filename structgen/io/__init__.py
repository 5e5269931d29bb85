"""Files to values and back. Never imports a network."""
