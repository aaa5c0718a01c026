"""How the threads of numeric libraries behave on a machine that is shared.

Threads of OpenMP that wait for others spin by default.  Beside other processes they then
use up the time that the others would have needed: measured on two cores beside four busy
loops, answering took three times as long (``benchmarks/shared_machine.py``).  The setting is
read when a library is loaded, so it is made before torch is imported.
"""

from __future__ import annotations

import os

#: What is set for this process and all that it starts, unless the user has set it.
WAITING = {"OMP_WAIT_POLICY": "PASSIVE"}


def wait_passively() -> None:
    """Let waiting threads sleep, unless the user has said what they should do."""
    for name, value in WAITING.items():
        os.environ.setdefault(name, value)
