"""Direct and separable sums."""
