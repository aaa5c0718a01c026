"""How long a run takes, as far as that is known: what a dry run says beside the cost.

Hours are those of one worker: what was measured in the run folder, or else what the
configuration assumes (``run.assumed``).  Decoding counts as part of the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from lossylens.grid.config import AssumedOptions, Choice, Config
from lossylens.grid.plan import Plan
from lossylens.run.collect import Material
from lossylens.run.cost import count_of, size_of
from lossylens.store.database import Store

#: A kind of work: place of the plugin, how much, and seconds for each, if that is known.
_Work = tuple[str, int, float | None]


def describe_hours(
    config: Config, plan: Plan, material: Material, store: Store | None
) -> Iterator[str]:
    """Yield lines on the hours of a whole grid, what is done already included."""
    encode, answer, decode = (
        store.mean_seconds(stage) if store else {} for stage in ("encode", "answer", "decode")
    )
    images = sum(1 for each in material.pictures.values() if each.sha256 in material.compressed)
    coded = [codec for codec in plan.codecs if codec.encodes]
    encodings = [
        (
            codec.choice.where,
            images,
            encode.get(codec.part.key, _assumed(config, codec.choice).seconds),
        )
        for codec in coded
    ]
    answers: list[_Work] = []
    for model in plan.models:
        seconds = answer.get(model.part.key, _assumed(config, model.choice).seconds)
        for codec in plan.codecs:
            asked = [
                len(material.samples[cell.task_key]) for _, cell in plan.cells_of(model, codec)
            ]
            answers.append((model.choice.where, sum(asked), seconds))
            if asked and codec.encodes:
                each = decode.get(codec.part.key, 0.0)
                answers.append((codec.choice.where, images, each))
    yield from _lines(encodings, answers)


def describe_assumed(config: Config) -> Iterator[str]:
    """Yield lines on a grid whose plugins or data are not here."""
    levels = [(codec, level) for codec in config.codecs for level in codec.levels]
    coded = [codec for codec, _ in levels if codec.spec.nominal_bpp is None]
    models = [vlm for vlm in config.vlms for _ in range(config.run.baseline + len(config.adaptors))]
    sizes = [_assumed(config, task) for task in config.tasks]
    images, questions = (
        sum(each.images for each in sizes),
        sum(each.questions for each in sizes),
    )
    megapixels = sum(each.images * each.megapixels for each in sizes)
    yield (
        f"{count_of(len(models), 'model')} x {count_of(len(levels), 'codec level')} x"
        f" {count_of(len(sizes), 'task')} = "
        + count_of(len(models) * len(levels) * len(sizes), "cell")
    )
    yield (
        f"{count_of(images, 'image')}, {count_of(questions, 'question')}:"
        f" {count_of(len(coded) * images, 'encoding')},"
        f" {count_of(len(models) * len(levels) * questions, 'answer')};"
        f" {size_of(len(coded) * megapixels * 1e6 / 8)} of bitstreams if they average 1 bit per"
        " pixel"
    )
    encodings = [(each.where, images, _assumed(config, each).seconds) for each in coded]
    answers = [
        (each.where, questions * len(levels), _assumed(config, each).seconds) for each in models
    ]
    yield from _lines(encodings, answers)


def _assumed(config: Config, choice: Choice[Any]) -> AssumedOptions:
    return config.run.assumed.get(choice.where, AssumedOptions())


def _lines(encodings: Iterable[_Work], answers: Iterable[_Work]) -> Iterator[str]:
    for what, works in (("encoding", list(encodings)), ("answering", list(answers))):
        known: dict[str, float] = {}
        for where, count, seconds in works:
            if seconds is not None:
                known[where] = known.get(where, 0.0) + count * seconds / 3600
        unknown = dict.fromkeys(where for where, _, seconds in works if seconds is None)
        longest = sorted(known, key=lambda each: known[each], reverse=True)[:3]
        line = f"{sum(known.values()):.3g} hours of one worker for {what}"
        if longest:
            line += f", most for {', '.join(f'{each} {known[each]:.3g}' for each in longest)}"
        if unknown:
            line += f"; not known, as nothing was measured: {', '.join(unknown)}"
        yield line
