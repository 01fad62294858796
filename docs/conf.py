"""Settings of the site: ``sphinx-build -W -b html docs build/docs`` with the extra ``docs``."""

import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import gallery_pictures
import tables

import gpuconv

project = "gpuconv"
author = copyright = "the gpuconv developers"
version = release = gpuconv.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
]
# Links into the documentation of others, where the site is published. A build elsewhere may have no
# network, and an inventory that cannot be reached would be an error.
intersphinx_mapping = (
    {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "scipy": ("https://docs.scipy.org/doc/scipy", None),
    }
    if "READTHEDOCS" in os.environ
    else {}
)
exclude_patterns = ["drawings"]
html_theme = "furo"
html_title = f"gpuconv {version}"
# Docstrings have code in single backquotes.
default_role = "code"
smartquotes = False
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
napoleon_google_docstring = False
napoleon_use_rtype = False
# Keeps parameters together that are described together.
napoleon_use_param = False
napoleon_use_ivar = True
autodoc_member_order = "bysource"
# Docstrings describe types in words; those of signatures are for type checkers.
autodoc_typehints = "none"


def fill_in(app: Any, docname: str, source: list[str]) -> None:
    """Put the generated text, or pictures, in the place of a page's markers."""
    if docname in tables.PAGES:
        name, make = tables.PAGES[docname]
        marker = f"<!-- {name} -->"
        if source[0].count(marker) != 1:
            raise ValueError(f"{docname}.md must hold {marker} once")
        source[0] = source[0].replace(marker, make(source[0]))
    folder, _, name = docname.rpartition("/")
    if folder == "gallery":
        made = Path(__file__).parent / folder / "made"
        source[0] = gallery_pictures.run_page(source[0], made, name)


def setup(app: Any) -> None:
    """Run `fill_in` on every page that is read."""
    app.connect("source-read", fill_in)
