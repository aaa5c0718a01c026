"""A small real plugin for tests of runs: a codec, a VLM and a task."""

from __future__ import annotations

import os
import time


def log(*words: object, variable: str = "SAMPLE_LOG") -> None:
    """Append a line to the log of calls, if there is one."""
    path = os.environ.get(variable)
    if path:
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, (" ".join(map(str, words)) + "\n").encode())
        os.close(handle)


def dawdle(variable: str = "SAMPLE_DELAY") -> None:
    """Take a while, so that there is time to be killed."""
    time.sleep(float(os.environ.get(variable, "0")))
