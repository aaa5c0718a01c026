"""Seconds to score 100 000 rows, per task, on one core.

A data file with tiny pictures, ten questions to each, and a file of predictions
are written to a temporary folder.  Timed is what ``lossylens score`` does with
them: reading the predictions, indexing the data, scoring.  Given are seconds of
processor time and the time on the clock.  ``coco-caption-without-cider`` leaves
out the one metric that has no bound on its time.  ``few-shot`` has no data file, but a folder
of pictures, from which it draws as many groups.

    python benchmarks/scoring.py [--rows 100000] [--tasks pope gqa ...]
"""

from __future__ import annotations

import argparse
import base64
import io
import itertools
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from lossylens.files.predictions import read_predictions
from lossylens.registry.plugins import load_registry
from PIL import Image

SEED = 7
WITHOUT_CIDER = "coco-caption-without-cider"
ROWS_PER_PICTURE = 10
# Few words are frequent and many rare, as in captions.
WORDS = ["a", "the", "on", "of", "in", "with", *(f"word{number}" for number in range(1000))]
TOTALS = list(itertools.accumulate(1 / rank for rank in range(1, len(WORDS) + 1)))

#: One row: the cells besides index and picture, and a prediction.
Row = tuple[dict[str, str], str]


def phrase(rng: random.Random, length: int) -> str:
    """Return so many random words."""
    return " ".join(rng.choices(WORDS, cum_weights=TOTALS, k=length))


def yes_no(rng: random.Random) -> tuple[str, str]:
    """Return an answer and a prediction: most of them short, some in a sentence."""
    said = rng.choice(["Yes", "No", "yes.", "No."])
    if rng.random() < 0.3:
        said = f"{said}, {phrase(rng, 8)} ({rng.randrange(10**6)})."
    return rng.choice(["Yes", "No"]), said


def pope(rng: random.Random, index: int) -> Row:
    answer, said = yes_no(rng)
    category = rng.choice(["random", "popular", "adversarial", "random,popular"])
    question = f"Is there a {rng.choice(WORDS)} in the image? Please answer yes or no."
    return {"question": question, "answer": answer, "category": category}, said


def mme(rng: random.Random, index: int) -> Row:
    from lossylens_task_mme.task import CATEGORIES

    answer, said = yes_no(rng)
    pair = index // 2
    category = CATEGORIES[pair % len(CATEGORIES)]
    cells = {"question": f"Is it a {phrase(rng, 5)}? Please answer yes or no.", "answer": answer}
    return cells | {"category": category, "image_path": f"{category}/{pair}.jpg"}, said


def gqa(rng: random.Random, index: int) -> Row:
    category = rng.choice(["choose", "compare", "logical", "query", "verify"])
    cells = {"question": f"What is {phrase(rng, 6)}?", "answer": rng.choice(WORDS)}
    return cells | {"category": category}, rng.choice(WORDS)


def choice(rng: random.Random, index: int) -> Row:
    options = {letter: phrase(rng, 4) for letter in "ABCD"}
    said = rng.choice(["A", "B.", "(C)", f"The answer is {rng.choice('ABCD')}", phrase(rng, 6)])
    if rng.random() < 0.2:
        said = f"{options['D']} {phrase(rng, 3)}"
    return {"question": f"Which {phrase(rng, 6)}?", **options, "answer": rng.choice("ABCD")}, said


def seedbench(rng: random.Random, index: int) -> Row:
    cells, said = choice(rng, index)
    return cells | {"category": rng.choice(["Visual Reasoning", "Spatial Relation"])}, said


def mmbench(rng: random.Random, index: int) -> Row:
    cells, said = choice(rng, index)
    abilities = {"category": rng.choice(WORDS), "l2-category": "coarse_perception"}
    return cells | abilities | {"hint": "", "split": "dev"}, said


def ocrbench(rng: random.Random, index: int) -> Row:
    from lossylens_task_ocrbench.task import CATEGORIES

    answers = repr([phrase(rng, 2), phrase(rng, 3)])
    cells = {"question": "What is written in the image?", "answer": answers}
    return cells | {"category": rng.choice(CATEGORIES)}, phrase(rng, 8)


def short(rng: random.Random) -> tuple[str, str]:
    """Return an answer and a prediction, which is the answer, near it, or a sentence."""
    answer = rng.choice([rng.choice(WORDS), phrase(rng, 3), str(rng.randrange(1000))])
    said = rng.choice([answer, answer.title() + ".", f"the {answer}", rng.choice(WORDS)])
    return answer, said if rng.random() < 0.8 else f"It says {said}, I think."


def textvqa(rng: random.Random, index: int) -> Row:
    answer, said = short(rng)
    others = [short(rng)[0], answer.upper(), f"{answer}."]
    answers = [answer if rng.random() < 0.6 else rng.choice(others) for _ in range(10)]
    return {"question": f"What {phrase(rng, 5)}?", "answer": repr(answers)}, said


def vqav2(rng: random.Random, index: int) -> Row:
    cells, said = textvqa(rng, index)
    return cells | {"category": rng.choice(["yes/no", "number", "other"])}, said


def docvqa(rng: random.Random, index: int) -> Row:
    answer, said = short(rng)
    answer = f"{answer} {phrase(rng, rng.randrange(1, 4))}"
    said = f"{said} {answer}" if rng.random() < 0.2 else answer.replace("w", "v", 1)
    answers = repr([answer, answer.title()])
    return {"question": f"What {phrase(rng, 5)}?", "answer": answers, "split": "val"}, said


def chartqa(rng: random.Random, index: int) -> Row:
    number = str(round(rng.uniform(1, 1000), 1))
    answer, said = rng.choice([(number, f"{float(number) * 1.04:.1f}"), short(rng)])
    cells = {"question": f"What {phrase(rng, 5)}?", "answer": answer}
    return cells | {"split": rng.choice(["test_human", "test_augmented"])}, said


def mmmu(rng: random.Random, index: int) -> Row:
    cells, said = choice(rng, index)
    if rng.random() < 0.06:
        cells |= dict.fromkeys("ABCD", "") | {"answer": phrase(rng, 2)}
    subject = rng.randrange(30)
    cells |= {"category": f"discipline {subject % 6}", "l2-category": f"subject {subject}"}
    return cells | {"split": "validation"}, said


def box(rng: random.Random) -> list[float]:
    """Return left, top, right and bottom in a picture of 640x480."""
    left, top = rng.uniform(0, 500), rng.uniform(0, 350)
    return [round(side, 2) for side in (left, top, left + 120, top + 110)]


def refcoco(rng: random.Random, index: int) -> Row:
    right = box(rng)
    said = rng.choice([right, box(rng), [round(1000 * side / 640) for side in right]])
    split = f"{rng.choice(['RefCOCO', 'RefCOCO+'])} {rng.choice(['val', 'testA', 'testB'])}"
    cells = {"question": f"Please provide the box of {phrase(rng, 3)}", "answer": str(right)}
    return cells | {"category": split, "width": "640", "height": "480"}, f"[{said}]"


def video_mme(rng: random.Random, index: int) -> Row:
    from lossylens_task_video_mme.task import GROUPS

    film = f"film{index // 3}"
    cells = {
        "video": film,
        "video_path": f"video/{film}.mp4",
        "duration": rng.choice(["short", "medium", "long"]),
        "candidates": repr([f"{letter}. {phrase(rng, 4)}." for letter in "ABCD"]),
        **{column: rng.choice(names) for column, names in GROUPS.items()},
        "question": f"Why {phrase(rng, 8)}?",
        "answer": rng.choice("ABCD"),
    }
    return cells, rng.choice(["A", "B.", "The best answer is C", phrase(rng, 10)])


def few_shot(rng: random.Random, index: int) -> Row:
    return {}, rng.choice("ABCDE")


def coco_caption(rng: random.Random, index: int) -> Row:
    return {"answer": repr([phrase(rng, 10) for _ in range(5)])}, phrase(rng, 10)


TASKS: dict[str, Callable[[random.Random, int], Row]] = {
    "pope": pope,
    "gqa": gqa,
    "mme": mme,
    "mmbench": mmbench,
    "seedbench": seedbench,
    "ocrbench": ocrbench,
    "textvqa": textvqa,
    "vqav2": vqav2,
    "docvqa": docvqa,
    "infovqa": docvqa,
    "chartqa": chartqa,
    "mmmu": mmmu,
    "refcoco": refcoco,
    "video-mme": video_mme,
    "few-shot": few_shot,
    "coco-caption": coco_caption,
    WITHOUT_CIDER: coco_caption,
}


def row_id(task: str, number: int) -> int:
    """Return a row's index; MMBench counts the copies of a question in millions."""
    return number // 4 + number % 4 * 1_000_000 if task == "mmbench" else number


def write(task: str, rows: int, folder: Path) -> tuple[Path, Path]:
    """Write data and predictions; return their paths."""
    rng = random.Random(SEED)
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "PNG")
    picture = base64.b64encode(stream.getvalue()).decode()
    data, predictions = folder / "data.tsv", folder / "predictions.jsonl"
    with data.open("w") as table, predictions.open("w") as said:
        for number in range(rows):
            cells, prediction = TASKS[task](rng, number)
            if number == 0:
                table.write("\t".join(["index", "image", *cells]) + "\n")
            holder = number - number % ROWS_PER_PICTURE
            image = picture if number == holder else str(row_id(task, holder))
            index = row_id(task, number)
            table.write("\t".join([str(index), image, *cells.values()]) + "\n")
            said.write(json.dumps({"index": index, "prediction": prediction}) + "\n")
    if task == "few-shot":
        data = folder / "classes"
        for number in range(50 * ROWS_PER_PICTURE):
            path = data / f"class{number % 50}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(stream.getvalue())
    return data, predictions


def leave_out_cider() -> None:
    """Let every caption have a CIDEr of 0, in this process."""
    from lossylens_task_coco_caption import task as module

    module.cider = lambda captions, references: [0.0] * len(captions)


def measure(task: str, data: Path, predictions: Path) -> None:
    """Score once, in this process, and print the figures."""
    registry = load_registry()
    if task == WITHOUT_CIDER:
        leave_out_cider()
    name = "coco-caption" if task == WITHOUT_CIDER else task
    busy, clock = time.process_time(), time.perf_counter()
    said = read_predictions(predictions)
    options = {"groups": len(said)} if task == "few-shot" else {}
    score = registry.build_task(name, {"data": str(data), **options}).score(said)
    busy, clock = time.process_time() - busy, time.perf_counter() - clock
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{task:<28}{score.samples:>9}{busy:>10.2f}{clock:>10.2f}{peak:>10.0f}", flush=True)


def main() -> None:
    """Write the files of each task and score them in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        task, data, predictions = arguments.measure
        measure(task, Path(data), Path(predictions))
        return
    print(f"{'task':<28}{'rows':>9}{'busy s':>10}{'clock s':>10}{'peak MB':>10}", flush=True)
    for task in arguments.tasks:
        with tempfile.TemporaryDirectory() as folder:
            files = write(task, arguments.rows, Path(folder))
            words = [sys.executable, __file__, "--measure", task, *map(str, files)]
            subprocess.run(words, check=True)


if __name__ == "__main__":
    main()
