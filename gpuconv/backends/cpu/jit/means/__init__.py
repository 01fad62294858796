"""Means of the pixels that are there."""
