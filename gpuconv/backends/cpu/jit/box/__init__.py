"""Box sums."""
