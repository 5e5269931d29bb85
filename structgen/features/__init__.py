"""Jobs to features: chemistry, atoms, tokens, alignments, batches. Never imports a network."""
