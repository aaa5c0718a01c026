"""Questions about two scenes, the second of which may be context."""

from __future__ import annotations

import hashlib

from lossylens.task import ImageRef, Resampling, Sample, Score, Task
from lossylens.vlm import Question, QuestionKind
from lossylens_task_scenes.options import ScenesOptions
from lossylens_task_scenes.task import ScenesTask


class Several(Task):
    def __init__(self, options):
        scenes = ScenesTask(ScenesOptions(images=4, size=96, topics=["background"]))
        self._scenes = list(scenes.samples())

    def samples(self):
        for number, one in enumerate(self._scenes):
            [first] = one.images
            [second] = self._scenes[(number + 1) % len(self._scenes)].images
            for name, images in (
                ("both", (first, second)),
                ("again", (first, second)),
                ("example", (ImageRef(second.key, second.read, context=True), first)),
                ("twice", (first, first)),
            ):
                text = "<image 1> and <image 2>: what is the background of the first?"
                question = Question(QuestionKind.SHORT_ANSWER, text, max_new_tokens=3)
                yield Sample(f"{number}-{name}", images, question, {"answer": one.fields["answer"]})

    def score(self, predictions):
        right = {
            each.id: float(predictions[each.id] == each.fields["answer"])
            for each in self.samples()
            if each.id in predictions
        }
        share = 100 * sum(right.values()) / len(right)
        drawn = Resampling.mean(right, 100)
        return Score({"accuracy": share}, share, right, samples=len(right), resampling=drawn)

    def fingerprint(self):
        return hashlib.sha256(repr(self._scenes).encode()).hexdigest()
