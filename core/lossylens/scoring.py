"""The third step of a run: a score and a rate for every cell."""

from __future__ import annotations

from lossylens.codec import bits_per_pixel
from lossylens.collect import Material
from lossylens.plan import Benchmark, Cell, CodecLevel, Plan, short_hash
from lossylens.progress import progress
from lossylens.store import Store

#: Number of images, mean bits per pixel, total bits over total pixels.
Rate = tuple[int, float | None, float | None]


def score_all(plan: Plan, material: Material, store: Store) -> None:
    """Score every cell whose predictions, rates or task version are new.

    Raises:
        LossylensError: a task cannot score its predictions, or the store cannot be
            written.
    """
    with progress("Scoring", len(plan.cells), "cells") as step:
        for model in plan.models:
            for codec in plan.codecs:
                for benchmark, cell in plan.cells_of(model, codec):
                    _score(benchmark, codec, cell, material, store)
                    step.advance()


def _score(
    benchmark: Benchmark, codec: CodecLevel, cell: Cell, material: Material, store: Store
) -> None:
    stored = store.predictions(cell.key)
    samples = material.samples[cell.task_key]
    # Those of an earlier start with a higher limit do not count.
    predictions = {
        each.sample.id: stored[each.sample.id] for each in samples if each.sample.id in stored
    }
    rate = _rate(codec, cell, material, store)
    version = benchmark.choice.found.plugin.version
    inputs = short_hash([version, sorted(predictions.items()), rate])
    if store.score_inputs(cell.key) != inputs:
        store.set_score(cell.key, inputs, benchmark.task.score(predictions), rate)


def _rate(codec: CodecLevel, cell: Cell, material: Material, store: Store) -> Rate:
    """Return the rate over the distinct images of a cell, those that failed left out."""
    used = {each.image for each in material.samples[cell.task_key] if each.image}
    pictures = [
        picture
        for sha256, picture in sorted(material.pictures.items())
        if sha256 in used and not picture.failure
    ]
    nominal = codec.choice.spec.nominal_bpp
    if nominal is not None:
        return len(pictures), nominal, nominal
    encodings = store.encodings(cell.codec_key)
    coded = [
        (picture, encodings[picture.sha256]["bytes"])
        for picture in pictures
        if picture.sha256 in encodings and encodings[picture.sha256]["bytes"] is not None
    ]
    if not coded:
        return 0, None, None
    rates = [bits_per_pixel(size, *picture.size) for picture, size in coded]
    bits = sum(8 * size for _, size in coded)
    pixels = sum(picture.width * picture.height for picture, _ in coded)
    return len(coded), sum(rates) / len(rates), bits / pixels
