"""Sets and files of pictures."""
