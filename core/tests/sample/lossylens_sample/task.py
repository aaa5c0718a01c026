"""Noise with questions; ``troubles`` names what is wrong with the first images."""

from __future__ import annotations

import hashlib
import io
import os
from functools import partial

import numpy as np
from lossylens.errors import DataError
from lossylens.task import ImageRef, Resampling, Sample, Score, Task
from lossylens.vlm import Question, QuestionKind
from PIL import Image

from lossylens_sample import codec, dawdle, log

MARKS = {
    "refused": codec.REFUSED,
    "crashing": codec.CRASHING,
    "undecodable": codec.UNDECODABLE,
    "shrinking": codec.SHRINKING,
    "raising": codec.RAISING,
    "hopeless": codec.HOPELESS,
    "exiting": codec.EXITING,
    "killed": codec.KILLED,
    "hanging": codec.HANGING,
    "greedy": codec.GREEDY,
    "wandering": codec.WANDERING,
    "stuck": codec.STUCK,
    "hoarding": codec.HOARDING,
}
WORDS = ("unanswerable", "impossible", "unbearable", "overwhelming", "forbidden", "endless")


def read(seed, index, trouble):
    if trouble == "unreadable":
        raise OSError("the file has gone")
    if trouble == "fickle":
        seed = np.random.default_rng().integers(1 << 30)
    # Sizes differ, so that a mix-up shows.
    chance = np.random.default_rng((seed, index, len(trouble)))
    noise = chance.integers(0, 249, (16 + index % 5, 24, 3))
    pixels = np.asarray(noise, np.uint8)
    pixels[0, 0] = (MARKS.get(trouble, 7), 0, 0)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    data = buffer.getvalue()
    return data[: len(data) // 2] if trouble == "truncated" else data


def resampled(resampling):
    """Return a score of 1 with a resampling, for SAMPLE_SCORE."""
    return Score({"right": 1.0}, 1.0, resampling=resampling)


class Patches(Task):
    def __init__(self, options):
        log("task", options.place, variable="SAMPLE_BUILT")
        self.options = options
        self.troubles = os.environ.get("SAMPLE_TROUBLES", options.troubles).split(",")

    def samples(self):
        if "malformed" in self.troubles:
            raise DataError("patches.tsv, row 3, column answer: empty")
        for index in range(self.options.images):
            trouble = self.troubles[index] if index < len(self.troubles) else ""
            image = ImageRef(str(index), partial(read, self.options.seed, index, trouble))
            word = trouble if trouble in WORDS else "plain"
            for number in range(self.options.questions):
                label = {"answer": os.environ.get("SAMPLE_LABEL", "")}
                text = f"{word} question {index}.{number}"
                question = Question(QuestionKind.OPEN, text, task="patches", max_new_tokens=5)
                cluster = os.environ.get("SAMPLE_CLUSTER", "").format(pair=index // 2)
                fields = {"number": str(number), **label}
                yield Sample(f"{index}.{number}", image, question, fields, cluster)

    def score(self, predictions):
        log("score", len(predictions), hashlib.sha256(repr(predictions).encode()).hexdigest())
        dawdle()
        if "SAMPLE_SCORE" in os.environ:
            return eval(os.environ["SAMPLE_SCORE"])
        right = {key: float((text or "x")[0] in "01234567") for key, text in predictions.items()}
        share = 100 * sum(right.values()) / max(1, len(right))
        samples = self.options.images * self.options.questions
        failed = sum(text is None for text in predictions.values())
        return Score(
            metrics={"right": share, "by": {"length": len(right)}},
            value=share,
            verdicts=right,
            extracted={key: text[:1] for key, text in predictions.items() if text},
            samples=samples,
            missing=samples - len(predictions),
            failed=failed,
            resampling=Resampling.mean(right, 100),
        )

    def fingerprint(self):
        return os.environ.get("SAMPLE_DATA", repr(self.options))
