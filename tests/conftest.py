"""No test, nor a process that a test starts, reads costs that this user has calibrated."""

import os
import tempfile

_EMPTY = tempfile.TemporaryDirectory(prefix="gpuconv-tests-")
os.environ["GPUCONV_CONFIG_DIR"] = _EMPTY.name
