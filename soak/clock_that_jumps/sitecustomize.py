"""Adds the seconds in a file to `time.time`. Python runs this at its start if the folder is on PYTHONPATH."""

import os
import time
from pathlib import Path

_file = Path(os.environ["SOAK_CLOCK"])
_right = time.time


def _jumped() -> float:
    try:
        return _right() + float(_file.read_text())
    except ValueError:  # somebody writes it right now
        return _right()


time.time = _jumped
