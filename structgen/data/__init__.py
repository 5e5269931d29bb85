"""Experimental structures as training data: compact entries, crops, batches, and the archives that hold them. Imports no network."""
