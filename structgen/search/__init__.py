"""One file a tool: sequences to alignments. Never imports a network."""
