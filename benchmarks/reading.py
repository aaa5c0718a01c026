"""Memory and time that a TSV file of many gigabytes takes, several pictures to a row.

A file in the form of MMMU is written to a temporary folder and deleted at the end: lists of 1
to 7 pictures of ``--picture`` megabytes, half of them in quotes, and rows that refer to
them.  In a process of its own its samples are listed, a hundred pictures are read, and the
answers are scored.  Given are seconds of processor time of each step, and the process's peak
of memory after it.

    python benchmarks/reading.py [--gigabytes 1] [--picture 2] [--folder /scratch]
"""

from __future__ import annotations

import argparse
import base64
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lossylens.registry.plugins import load_registry

MOST = 7
READ = 100
COLUMNS = ("index", "image", "question", "A", "B", "answer", "category", "l2-category", "split")
CELLS = ("Which is it, <image 1>?", "this", "that", "A", "Science", "Math", "validation")


def write(path: Path, size: float, picture: float) -> None:
    """Write a file of *size* bytes at least, whose pictures have *picture* bytes each."""
    member = base64.b64encode(random.Random(7).randbytes(round(picture))).decode()
    number = 0
    with path.open("w", buffering=2**24) as table:
        table.write("\t".join(COLUMNS) + "\n")
        while table.tell() < size:
            cell = f"[{', '.join([repr(member)] * (1 + number % MOST))}]"
            cell = f'"{cell}"' if number % 4 else cell
            table.write("\t".join([str(number), cell, *CELLS]) + "\n")
            table.write("\t".join([str(number + 1), str(number), *CELLS]) + "\n")
            number += 2


def measure(data: Path) -> None:
    """Read the file in this process and print the figures of each step."""
    task = load_registry().build_task("mmmu", {"data": str(data)})
    print(f"{data.stat().st_size / 1e9:.1f} GB of MMMU", flush=True)
    busy = time.process_time()

    def step(what: str) -> None:
        nonlocal busy
        busy, before = time.process_time(), busy
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{what:<40}{busy - before:>8.2f} s{peak:>8.0f} MB", flush=True)

    samples = list(task.samples())
    step(f"{len(samples)} samples listed")
    pictures = list({image.key: image for sample in samples for image in sample.images}.values())
    chosen = pictures[:: max(1, len(pictures) // READ)]
    read = sum(len(image.read()) for image in chosen)
    step(f"{len(chosen)} of {len(pictures)} pictures read, {read / 1e6:.0f} MB")
    score = task.score(dict.fromkeys([sample.id for sample in samples], "A"))
    assert score.value == 1
    step("answers scored")


def main() -> None:
    """Write the file and read it in another process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=1)
    parser.add_argument("--picture", type=float, default=2, help="megabytes of a picture")
    parser.add_argument("--folder", type=Path, help="where there is room for the file")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure)
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        data = Path(folder) / "data.tsv"
        write(data, 1e9 * arguments.gigabytes, 1e6 * arguments.picture)
        subprocess.run([sys.executable, __file__, "--measure", str(data)], check=True)


if __name__ == "__main__":
    main()
