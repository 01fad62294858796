"""Similarities of template matching."""
