"""How the site is built: ``sphinx-build -W -b html docs build/docs`` with the extra ``docs``."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import tables

import gpuconv

project = "gpuconv"
author = copyright = "the gpuconv developers"
version = release = gpuconv.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["drawings"]
html_theme = "furo"
html_title = f"gpuconv {version}"
# Code in single backquotes, as docstrings have it.
default_role = "code"
smartquotes = False
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
napoleon_google_docstring = False
napoleon_use_rtype = False
# Parameters that are described together stay together.
napoleon_use_param = False
napoleon_use_ivar = True
autodoc_member_order = "bysource"
# Types are in the docstrings, in words; the signatures' are for type checkers.
autodoc_typehints = "none"


def fill_in(app: Any, docname: str, source: list[str]) -> None:
    """Put what is generated in the place of its name."""
    if docname in tables.PAGES:
        name, make = tables.PAGES[docname]
        place = f"<!-- {name} -->"
        if source[0].count(place) != 1:
            raise ValueError(f"{docname}.md must hold {place} once")
        source[0] = source[0].replace(place, make(source[0]))


def setup(app: Any) -> None:
    """Connect to the reading of pages."""
    app.connect("source-read", fill_in)
