"""Seconds of a run on a quiet machine, and beside busy processes, by how threads wait.

The same run (VLM ``nano`` on scenes, one JPEG level) in a fresh folder, alternating between
three settings of its processes:

* ``as set``: what lossylens sets, threads that wait sleep (``OMP_WAIT_POLICY=PASSIVE``);
* ``spinning``: ``OMP_WAIT_POLICY=ACTIVE``, close to what libraries do by themselves;
* ``one thread``: ``OMP_NUM_THREADS=1``.

First with nothing beside it, then beside busy loops, two for each core.

    python benchmarks/shared_machine.py [--images 24] [--rounds 2]
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SETTINGS = {
    "as set": {},
    "spinning": {"OMP_WAIT_POLICY": "ACTIVE"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
_CONFIG = """
codecs: {{jpeg: {{levels: [q5]}}}}
vlms: {{nano: }}
tasks: {{scenes: {{images: {images}, seed: 3}}}}
run: {{out: run, workers: 1}}
"""
_LOOP = [sys.executable, "-c", "while True: pass"]


@contextmanager
def busy(loops: int) -> Iterator[None]:
    """Keep the machine busy while inside."""
    running = [subprocess.Popen(_LOOP) for _ in range(loops)]
    try:
        yield
    finally:
        for each in running:
            each.kill()
            each.wait()


def run(images: int, setting: dict[str, str]) -> tuple[float, float]:
    """Return the seconds of a run, by the clock and of processors."""
    command = [sys.executable, "-m", "lossylens", "run", "config.yaml"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OMP_")} | setting
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.yaml").write_text(_CONFIG.format(images=images))
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
        seconds = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, spent


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    loops = 2 * (os.cpu_count() or 1)
    print(f"{'':24}{'seconds':>10}{'of processors':>15}{'ratio':>8}")
    for beside, count in (("quiet", 0), (f"beside {loops} loops", loops)):
        with busy(count):
            found = {name: [] for name in SETTINGS}
            for _ in range(arguments.rounds):
                for name, setting in SETTINGS.items():
                    found[name].append(run(arguments.images, setting))
        least = statistics.median(seconds for seconds, _ in found["as set"])
        for name, measured in found.items():
            seconds = statistics.median(each for each, _ in measured)
            spent = statistics.median(each for _, each in measured)
            title = f"{beside}, {name}"
            print(f"{title:24}{seconds:10.1f}{spent:15.1f}{seconds / least:8.2f}")


if __name__ == "__main__":
    main()
