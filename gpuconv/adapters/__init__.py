"""Bridges to other libraries, on top of the public API."""
