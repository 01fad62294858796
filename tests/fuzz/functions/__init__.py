"""Random calls of the functions beside `corr2d`, a module for each family of them.

A family has `PLAIN` (its settings and the values that say the least), `draw` (settings drawn at
random, of some dtypes), and `check`, which raises `Failure` where a result is not what the formula
or SciPy gives.
"""
