"""Sets of pictures and clips, and their files. Imports no network."""
