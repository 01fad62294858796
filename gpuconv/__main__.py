"""``python -m gpuconv``: the command line."""

import sys

from .cli import main

sys.exit(main())
