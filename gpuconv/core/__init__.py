"""Values and helpers that all other folders share; it imports nothing from them."""
