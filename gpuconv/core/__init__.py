"""What all other parts share: problems, borders, dtypes, arrays, errors."""
