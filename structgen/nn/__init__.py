"""Layers used by more than one family of networks."""
