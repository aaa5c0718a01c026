"""A VLM whose answers are a function of the pixels, and an adaptor."""

from __future__ import annotations

import hashlib
import os
import pickle
import time
from pathlib import Path

from lossylens.adaptor import Adaptor
from lossylens.vlm import Answer, Vlm

from lossylens_sample import dawdle, log
from lossylens_sample.codec import name_of


class Seer(Vlm):
    wants_bitstream = True

    def __init__(self, options):
        self.options = options
        self.batch_images = options.batch_images

    def answer(self, batch):
        dawdle()
        if "SAMPLE_GIVEN" in os.environ:
            with Path(os.environ["SAMPLE_GIVEN"]).open("ab") as file:
                for item in batch:
                    pickle.dump(item, file)
        if "SAMPLE_REPLY" in os.environ:
            return [eval(os.environ["SAMPLE_REPLY"])] * len(batch)
        answers = []
        for item in batch:
            if "unbearable" in item.questions[0].text and len(batch) > 1:
                raise MemoryError("too much at once")
            if "overwhelming" in item.questions[0].text:
                raise MemoryError("too much alone")
            assert item.image.mode == "RGB"
            reference = item.condition.point.codec == "uncompressed"
            assert (item.condition.bitstream is None) == reference
            answers.append([self._one(item, question) for question in item.questions])
        return answers

    def _one(self, item, question):
        log("answer", item.condition.point.level, name_of(item.image), question.text)
        sulk = os.environ.get("SAMPLE_SULK")
        if "unanswerable" in question.text or (sulk and sulk in question.text):
            return Answer(None, "it is beyond me")
        if "impossible" in question.text:
            raise ValueError("no such thing")
        if "forbidden" in question.text:
            os.abort()
        if "endless" in question.text:
            time.sleep(600)
        pixels = hashlib.sha256(item.image.tobytes()).hexdigest()
        digest = hashlib.sha256(f"{pixels}{question.text}{self.options.salt}".encode()).hexdigest()
        return Answer(digest[:12], usage={"output_tokens": 12})

    def provenance(self):
        return {"weights": os.environ.get("SAMPLE_WEIGHTS", "none")}


class Darken(Adaptor):
    """Changes the picture, so that answers change."""

    def fits(self, vlm, point):
        return "" if point.codec != self.options.spares else f"{point.codec} needs nothing"

    def picture(self, image, condition):
        return image.point(lambda value: value // self.options.by)
