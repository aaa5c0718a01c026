"""CPU time of ``lossylens plugins`` with every plugin of this environment, beside bare Python's.

python benchmarks/listing.py [--rounds 7]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path


def cpu_seconds(*command: str) -> float:
    """Return user and system time of *command* and its children."""
    before = os.times()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return (
        after.children_user + after.children_system - before.children_user - before.children_system
    )


def main() -> None:
    """Run both in turn and print medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    program = str(Path(sys.executable).parent / "lossylens")
    commands = {
        "python -c pass": (sys.executable, "-c", "pass"),
        "lossylens --version": (program, "--version"),
        "lossylens plugins": (program, "plugins"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            seconds[name].append(cpu_seconds(*command))
    for name, values in seconds.items():
        print(f"{name:20s} {statistics.median(values):.3f} s  (least {min(values):.3f} s)")


if __name__ == "__main__":
    main()
