"""Job files: what users write, read into the one schema of `features.job` and written from it."""
