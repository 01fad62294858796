"""Factors of weights."""
