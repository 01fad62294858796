"""Whole problems drawn at random, against the formula; see README.md beside this file."""
