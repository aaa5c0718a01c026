"""VLMs, tasks and adaptors that break one rule each; a distribution of a test holds this file."""

from __future__ import annotations

import io
import itertools
import json
import random
from pathlib import Path
from types import SimpleNamespace

from lossylens.adaptor import Adaptor, AdaptorSpec, Trained, Trainer
from lossylens.codec import CodecSpec, Level
from lossylens.errors import ConfigError, DataError
from lossylens.hookspecs import hookimpl
from lossylens.task import ImageRef, Primary, Resampling, Sample, Score, Task, TaskSpec
from lossylens.vlm import Answer, Question, QuestionKind, Vlm, VlmSpec
from PIL import Image

COUNT = itertools.count()
HERE = __name__


class Right(Vlm):
    """Answers with the mean of a corner and the length of the question."""

    batch_images = 2

    def __init__(self, options):
        self.encode = None

    def answer(self, batch):
        if self.encode is not None:
            for item in batch:
                pictures = [SimpleNamespace(layout=image.size) for image in item.images]
                self.encode(pictures, self.conditions(item))
        return [[self.one(item, question) for question in item.questions] for item in batch]

    def conditions(self, item):
        return item.conditions

    def one(self, item, question):
        if len(question.text) > 10_000:
            return Answer(None, "the question is too long")
        corners = [image.getpixel((0, 0)) for image in item.images]
        return Answer(f"{corners} {len(question.text)}")

    @property
    def vision(self):
        return SimpleNamespace(layout=lambda size: size, encode=lambda pictures: pictures)

    def with_encoder(self, encode):
        other = type(self)(None)
        other.encode = encode
        return other


class Forgetting(Right):
    def provenance(self):
        return {"built": str(next(COUNT))}


class Counting(Right):
    def one(self, item, question):
        return Answer(f"answer {next(COUNT)}")


class Sorting(Right):
    def answer(self, batch):
        return [
            sorted((self.one(item, each) for each in item.questions), key=lambda a: a.text)
            for item in batch
        ]


class Leaning(Right):
    def answer(self, batch):
        return [[Answer(f"{len(batch)}")] * len(item.questions) for item in batch]


class Lacking(Right):
    def answer(self, batch):
        return [answers[1:] for answers in super().answer(batch)]


class Texting(Right):
    def one(self, item, question):
        return "yes"


class Silent(Right):
    def one(self, item, question):
        return Answer(None)


class Raising(Right):
    def one(self, item, question):
        if len(question.text) > 10_000:
            raise ValueError("too long")
        return super().one(item, question)


class Alone(Right):
    def one(self, item, question):
        return Answer(f"{item.image.size}")


class Painting(Right):
    def one(self, item, question):
        item.images[0].putpixel((0, 0), (1, 2, 3))
        return Answer("yes")


class Announced(Right):
    def __init__(self, options):
        super().__init__(options)
        self.announced = 0

    def expect(self, item):
        self.announced += 1

    def one(self, item, question):
        return Answer(f"{self.announced}")


class Crossing(Right):
    def answer(self, batch):
        if self.encode is not None:
            pictures = [SimpleNamespace(layout=item.image.size) for item in batch]
            self.encode(pictures, [item.condition for item in reversed(batch)])
        return [[self.one(item, question) for question in item.questions] for item in batch]


VLMS = {
    each.__name__.lower(): each
    for each in (
        *(Right, Forgetting, Counting, Sorting, Leaning, Lacking, Texting, Silent, Raising, Alone),
        *(Painting, Announced, Crossing),
    )
}


def read(number):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (number, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


class Proper(Task):
    """Which number? The red of the picture."""

    def __init__(self, options):
        pass

    def ids(self):
        return [str(number) for number in range(4)]

    def image(self, number):
        return ImageRef(number, lambda: read(int(number)))

    def samples(self):
        for number in self.ids():
            question = Question(QuestionKind.SHORT_ANSWER, "How red?")
            yield Sample(number, self.image(number), question, {"answer": number})

    def score(self, predictions):
        strange = sorted(set(predictions) - set(self.ids()))
        if strange:
            raise DataError(f"predictions for samples that are not there: {strange}")
        if not predictions:
            raise DataError("no predictions")
        right = {key: self.credit(key, text) for key, text in predictions.items()}
        share = sum(right.values()) / len(right)
        failed = sum(text is None for text in predictions.values())
        missing = 4 - len(predictions)
        drawn = Resampling.mean(right)
        return Score({"share": share}, share, right, {}, 4, missing, failed, resampling=drawn)

    def credit(self, key, text):
        return float(text == key)

    def fingerprint(self):
        return "numbers 0 to 3"


class Shuffling(Proper):
    def samples(self):
        found = list(super().samples())
        random.Random(next(COUNT)).shuffle(found)
        return iter(found)


class Twin(Proper):
    def samples(self):
        for each in super().samples():
            yield each
            yield each


class Fresh(Proper):
    def fingerprint(self):
        return str(next(COUNT))


class Mixed(Proper):
    def image(self, number):
        return ImageRef("one", lambda: read(int(number)))


class Broken(Proper):
    def image(self, number):
        return ImageRef(number, lambda: b"no picture")


class Lenient(Proper):
    def score(self, predictions):
        return super().score({key: text for key, text in predictions.items() if key in self.ids()})


class Generous(Proper):
    def credit(self, key, text):
        return float(text is None or text == key)


class Blind(Proper):
    def credit(self, key, text):
        return 0.0


class Miscounting(Proper):
    def score(self, predictions):
        score = super().score(predictions)
        return Score(score.metrics, score.value, samples=len(predictions))


class Beyond(Proper):
    def score(self, predictions):
        super().score(predictions)
        return Score({"share": 50.0}, 50.0, samples=4, missing=4 - len(predictions))


class Speechless(Proper):
    def credit(self, key, text):
        return float(text is not None and text[0] == key)


TASKS = {
    each.__name__.lower(): each
    for each in (
        *(Proper, Shuffling, Twin, Fresh, Mixed, Broken, Lenient, Generous, Blind, Miscounting),
        *(Beyond, Speechless),
    )
}


class Darker(Adaptor):
    """Serves the codec alone."""

    def fits(self, vlm, point):
        return "it is for compressed images" if point.codec == "uncompressed" else ""

    def picture(self, image, condition):
        return image if condition.point.codec == "uncompressed" else self.changed(image)

    def changed(self, image):
        return image.point(lambda value: value // 2)


class Grey(Darker):
    def changed(self, image):
        return image.convert("L")


class Moody(Darker):
    def changed(self, image):
        return image.point([next(COUNT) % 256] * 768)


class Scratching(Darker):
    def changed(self, image):
        image.putpixel((0, 0), (1, 2, 3))
        return image


class Smearing(Darker):
    def picture(self, image, condition):
        return self.changed(image)


class Useless(Darker):
    def fits(self, vlm, point):
        return "never"


class Wordy(Darker):
    def remark(self, vlm):
        return "A sentence."


class Cornered(Darker):
    """Serves squares alone, which it is shown in place of pictures of other sizes."""

    def fits(self, vlm, point):
        return "" if point.square else "pictures are coded as they are"

    def changed(self, image):
        assert image.size == (32, 32)
        return super().changed(image)


class Checkpointed(Adaptor):
    """Has a checkpoint for one VLM."""

    def provenance(self):
        return {"checkpoint": self.options.checkpoint.read_text()}

    def fits(self, vlm, point):
        other = json.loads(self.options.checkpoint.read_text().strip("\0"))["vlm"] != vlm.weights
        return "it was trained for another" if other else ""

    def encoder(self, vision):
        return lambda pictures, conditions: vision.encode(pictures)


class Loyal(Checkpointed):
    pass


class Anybodys(Checkpointed):
    def fits(self, vlm, point):
        return ""


class Nameless(Checkpointed):
    def provenance(self):
        return {"checkpoint": "some"}


class Restless(Checkpointed):
    pass


class Careless(Checkpointed):
    pass


class TrainLoyal(Trainer):
    def content(self, training):
        return {"vlm": training.identity.weights}

    def train(self, training):
        training.folder.mkdir(parents=True, exist_ok=True)
        path = training.folder / "adaptor.json"
        content = json.dumps(self.content(training))
        self.check(path, content)
        path.write_text(content)
        return Trained(path)

    def check(self, path, content):
        if path.exists() and path.read_text() != content:
            raise ConfigError("the folder holds another training")


TrainAnybodys = TrainNameless = TrainLoyal


class TrainRestless(TrainLoyal):
    def content(self, training):
        return {"vlm": training.identity.weights, "n": next(COUNT)}

    def check(self, path, content):
        pass


class TrainCareless(TrainLoyal):
    def check(self, path, content):
        pass


PICTURES = (Darker, Cornered, Grey, Moody, Scratching, Smearing, Useless, Wordy)
ENCODERS = (Loyal, Anybodys, Nameless, Restless, Careless)


@hookimpl
def register_codecs(register):
    register(
        CodecSpec(
            name="plain",
            summary="no compression",
            factory="lossylens.uncompressed:Uncompressed",
            levels=(Level("q1"),),
        )
    )


@hookimpl
def register_vlms(register):
    for name, each in VLMS.items():
        factory = f"{HERE}:{each.__name__}"
        register(VlmSpec(name=name, summary="a VLM", factory=factory, parameters=0, max_images=2))


@hookimpl
def register_tasks(register):
    for name, each in TASKS.items():
        primary = Primary("share", 0, 1)
        factory = f"{HERE}:{each.__name__}"
        register(TaskSpec(name=name, summary="a task", factory=factory, primary=primary))


@hookimpl
def register_adaptors(register):
    from dataclasses import make_dataclass

    options = make_dataclass("Options", [("checkpoint", Path | None, None)])
    for each in PICTURES:
        name = each.__name__.lower()
        register(AdaptorSpec(name=name, summary="one", factory=f"{HERE}:{each.__name__}"))
    for each in ENCODERS:
        name = each.__name__.lower()
        trainer = f"{HERE}:Train{each.__name__}"
        factory = f"{HERE}:{each.__name__}"
        register(
            AdaptorSpec(name=name, summary="one", factory=factory, options=options, trainer=trainer)
        )
