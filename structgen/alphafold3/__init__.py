"""The network of AlphaFold 3: one file for each group of algorithms of the supplementary information (SI)."""
