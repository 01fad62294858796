"""Values and helpers that all other folders share; imports nothing from them."""
