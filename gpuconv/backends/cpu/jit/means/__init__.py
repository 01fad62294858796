"""Means over the pixels that are not missing."""
