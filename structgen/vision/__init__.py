"""Networks for pictures and clips, and what they are made from. Imports the generative core and shared layers alone."""
