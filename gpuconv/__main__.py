"""``python -m gpuconv``: the command line."""

import sys

from .cli.process import start

sys.exit(start())
