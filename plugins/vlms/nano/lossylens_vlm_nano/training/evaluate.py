"""Accuracy per topic on held-out scenes, uncompressed and behind a codec.

    python -m lossylens_vlm_nano.training.evaluate --scenes 400 --codec jpeg --levels q1 q5 q25

``--vlm`` asks another model that was trained on scenes.
Answers are free greedy text, compared exactly.  Scenes come from a seed that
was not trained on.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from lossylens.codec import SOURCE, Codec, bits_per_pixel
from lossylens.registry.plugins import load_registry
from lossylens.vlm import Condition, ImageQuestions, Vlm
from lossylens_task_scenes.questions.full_set import ask
from lossylens_task_scenes.questions.scene_question import SceneQuestion
from lossylens_task_scenes.render import render
from lossylens_task_scenes.scene import make_scene
from PIL.Image import Image

from lossylens_vlm_nano.training.data import HELD_OUT_SEED


def topic(question: SceneQuestion) -> str:
    """Return the group that *question* is reported under."""
    return "multiple choice" if question.options else question.topic


def asked_scenes(count: int, seed: int) -> Iterator[tuple[Image, list[SceneQuestion]]]:
    """Yield held-out scenes with their questions, captions left out."""
    for index in range(count):
        scene = make_scene(seed, index)
        questions = ask(scene, np.random.default_rng([seed, index]))
        yield render(scene), [q for q in questions if q.kind != "caption"]


def evaluate(vlm: Vlm, codec: Codec | None, count: int, seed: int) -> dict[str, float]:
    """Return the share of exact answers per topic, and the mean ``bpp`` of *codec*."""
    hits: dict[str, list[bool]] = defaultdict(list)
    rates: list[float] = []
    batch: list[tuple[Image, list[SceneQuestion]]] = []

    def answer_batch() -> None:
        items = [
            ImageQuestions(
                (image,),
                tuple(q.structured() for q in questions),
                (Condition(SOURCE, image.size),),
            )
            for image, questions in batch
        ]
        for (_, questions), answers in zip(batch, vlm.answer(items), strict=True):
            for question, answer in zip(questions, answers, strict=True):
                hits[topic(question)].append(answer.text == question.answer)
        batch.clear()

    for image, questions in asked_scenes(count, seed):
        if codec is not None:
            bitstream = codec.encode(image)
            rates.append(bits_per_pixel(len(bitstream), *image.size))
            image = codec.decode(bitstream)
        batch.append((image, questions))
        if len(batch) == vlm.batch_images:
            answer_batch()
    if batch:
        answer_batch()
    shares = {name: sum(right) / len(right) for name, right in sorted(hits.items())}
    everything = [hit for right in hits.values() for hit in right]
    shares["all"] = sum(everything) / len(everything)
    return {"bpp": sum(rates) / len(rates) if rates else 24.0, **shares}


def main() -> None:
    """Print one row per level."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=HELD_OUT_SEED)
    parser.add_argument("--vlm", default="nano")
    parser.add_argument("--checkpoint", default="", help="folder of another checkpoint")
    parser.add_argument("--codec", default="jpeg")
    parser.add_argument("--levels", nargs="*", default=[])
    arguments = parser.parse_args()
    registry = load_registry()
    options = {"checkpoint": arguments.checkpoint} if arguments.checkpoint else None
    vlm = registry.build_vlm(arguments.vlm, options)
    for level in [None, *arguments.levels]:
        codec = registry.build_codec(arguments.codec, level) if level else None
        row = evaluate(vlm, codec, arguments.scenes, arguments.seed)
        name = f"{arguments.codec} {level}" if level else "uncompressed"
        print(f"{name:14s}" + "  ".join(f"{key} {value:.3f}" for key, value in row.items()))


if __name__ == "__main__":
    main()
