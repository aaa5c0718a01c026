"""Seconds and memory of a report: the published results, and a run of a million predictions.

A run folder with that many predictions is generated (two models, eight codecs at
four levels and the uncompressed, one task of 20 questions on each image), and
``lossylens report`` is run in a process of its own.

    python benchmarks/report.py [--predictions 1000000]
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lossylens.store.database import Store
from lossylens.store.jsonable import to_json
from lossylens.store.records import Cell, Part, Picture, Prediction, Rate, StoredSample
from lossylens.task import Resampling, Score

SEED = 7
MODELS, CODECS, LEVELS, QUESTIONS = 2, 8, 4, 20


def generate(folder: Path, predictions: int) -> int:
    """Write a run folder; return how many predictions it holds."""
    rng = random.Random(SEED)
    cells = MODELS * (CODECS * LEVELS + 1)
    images = max(1, predictions // (cells * QUESTIONS))
    hashes = [f"{image:064x}" for image in range(images)]
    ids = [f"{image}-{number}" for image in range(images) for number in range(QUESTIONS)]
    right = [rng.choice(["Yes", "No"]) for _ in ids]
    task = Part("task", {"name": "made-up"})
    vlms = [Part("vlm", {"name": f"made-up-{number}"}) for number in range(MODELS)]
    codecs = [("uncompressed", "raw", Part("codec", {"name": "uncompressed"}))]
    for codec in range(CODECS):
        for level in range(LEVELS):
            described = {"name": f"codec-{codec}", "level": f"l{level}", "parameters": {}}
            part = Part("codec", {**described, "options": {}})
            codecs.append((f"codec-{codec}", f"l{level}", part))
    with Store(folder, writable=True) as store:
        grid = [
            Cell(f"vlm-{n}", "none", codec, level, "pope", vlm.key, part.key, task.key)
            for n, vlm in enumerate(vlms)
            for codec, level, part in codecs
        ]
        store.set_grid([task, *vlms, *(part for _, _, part in codecs)], grid)
        store.add_pictures([Picture(sha, 1000, 640, 480) for sha in hashes])
        question = {"kind": "yes_no", "text": "Is it?", "options": {}, "hint": "", "task": "pope"}
        store.set_samples(
            task.key,
            [
                StoredSample(
                    sample,
                    ((hashes[place // QUESTIONS], False),),
                    to_json(question),
                    to_json({"answer": right[place], "category": "random"}),
                    hashes[place // QUESTIONS],
                )
                for place, sample in enumerate(ids)
            ],
        )
        number = store.begin_run({}, _manifest(task))
        for place, cell in enumerate(grid):
            _fill(store, cell, place, hashes, ids, right, rng)
        store.end_run(number, "done")
    return len(ids) * len(grid)


def _manifest(task: Part) -> dict[str, object]:
    metric = {"name": "accuracy", "low": 0, "high": 100, "higher_is_better": True}
    return {
        "metrics": {"pope": metric},
        "data": {"pope": {}},
        "limit": None,
        "parts": {task.key: {"name": "made-up"}},
    }


def _fill(
    store: Store,
    cell: Cell,
    place: int,
    hashes: list[str],
    ids: list[str],
    right: list[str],
    rng: random.Random,
) -> None:
    """Store encodings, predictions, verdicts and the score of a cell."""
    level = place % (CODECS * LEVELS + 1)
    chance = 0.9 if level == 0 else 0.5 + 0.09 * ((level - 1) % LEVELS)
    hits = {sample: float(rng.random() < chance) for sample in ids}
    said = {
        sample: answer if hits[sample] else {"Yes": "No", "No": "Yes"}[answer]
        for sample, answer in zip(ids, right, strict=True)
    }
    store.add_predictions(
        [Prediction(cell.key, sample, f"{text}.") for sample, text in said.items()]
    )
    value = 100 * sum(hits.values()) / len(hits)
    bpp = 24.0 if level == 0 else 0.05 * (1 + (level - 1) % LEVELS) + 0.002 * level
    drawn = Resampling.mean(hits, 100)
    metrics = {"accuracy": value}
    score = Score(metrics, value, hits, said, len(ids), resampling=drawn)
    if level and place <= CODECS * LEVELS:
        size = round(bpp * 640 * 480 / 8)
        with store._writing() as database:
            database.executemany(
                "INSERT INTO encodings VALUES (?, ?, NULL, ?, NULL, 0)",
                [(cell.codec_key, sha, size + rng.randrange(-50, 50)) for sha in hashes],
            )
    sums = drawn.sums(store.clusters(cell.task_key))
    store.set_score(cell.key, str(place), score, Rate(len(hashes), bpp, bpp), sums=sums)


def measure(*sources: str, out: Path) -> None:
    """Run ``lossylens report`` and print what it took."""
    command = [sys.executable, "-m", "lossylens", "report", *sources, "--out", str(out)]
    clock = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    clock = time.perf_counter() - clock
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    size = (out / "index.html").stat().st_size / 1e6
    busy = used.ru_utime + used.ru_stime
    print(f"{busy:>10.1f}{clock:>10.1f}{used.ru_maxrss / 1024:>10.0f}{size:>10.1f}", flush=True)


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--predictions", type=int, default=1_000_000)
    arguments = parser.parse_args()
    print(f"{'report':<24}{'busy s':>10}{'clock s':>10}{'peak MB':>10}{'page MB':>10}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"{'published':<24}", end="", flush=True)
        measure("published", out=folder / "published")
        count = generate(folder / "run", arguments.predictions)
        print(f"{f'{count} predictions':<24}", end="", flush=True)
        measure(str(folder / "run"), out=folder / "out")


if __name__ == "__main__":
    main()
