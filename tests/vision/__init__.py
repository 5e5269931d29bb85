"""Networks of pictures and clips."""
