"""structgen: molecular structure prediction and generation, and the generative core under it."""

__version__ = "0.1.0"
