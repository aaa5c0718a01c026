"""What a run takes, said before it starts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lossylens.grid.plan import Plan
from lossylens.run.collect import Material
from lossylens.store.database import Store


@dataclass(frozen=True)
class Cost:
    """What a grid takes, and how much of it is in the store already.

    Attributes:
        images, questions: distinct ones.
        encodings, answers: of the whole grid.
        bitstream_bytes: of all bitstreams, if they average one bit per pixel.
        stored_encodings, stored_answers: of an earlier start, failures included.
        failed: how many of the stored answers are failures.
    """

    images: int
    questions: int
    encodings: int
    answers: int
    bitstream_bytes: int
    stored_encodings: int = 0
    stored_answers: int = 0
    failed: int = 0


def estimate(plan: Plan, material: Material, store: Store | None) -> Cost:
    """Return the cost of *plan*, given what is in *store*."""
    readable = {
        sha256: each
        for sha256, each in material.pictures.items()
        if not each.failure and sha256 in material.compressed
    }
    coded = [codec for codec in plan.codecs if codec.encodes]
    questions = sum(map(len, material.samples.values()))
    pixels = sum(each.width * each.height for each in readable.values())
    stored_encodings = stored_answers = failed = 0
    if store:
        for codec in coded:
            stored_encodings += len(readable.keys() & store.encoded(codec.part.key))
        for cell in plan.cells:
            answered = store.answered(cell.key)
            asked = (each.sample.id for each in material.samples[cell.task_key])
            known = [answered[sample] for sample in asked if sample in answered]
            stored_answers += len(known)
            failed += known.count(False)
    return Cost(
        images=len(material.pictures),
        questions=questions,
        encodings=len(coded) * len(readable),
        answers=sum(len(material.samples[cell.task_key]) for cell in plan.cells),
        bitstream_bytes=len(coded) * pixels // 8,
        stored_encodings=stored_encodings,
        stored_answers=stored_answers,
        failed=failed,
    )


def describe_cost(plan: Plan, cost: Cost, *, retry_failed: bool) -> Iterator[str]:
    """Yield lines that say what is going to be done."""
    vlms = len({model.choice.where for model in plan.models})
    adaptors = {model.adaptor_label for model in plan.models if model.adaptor}
    grid = [
        count_of(vlms, "VLM"),
        *([f"{count_of(len(adaptors), 'adaptor')} and none"] if adaptors else []),
        count_of(len(plan.codecs), "codec level"),
        count_of(len(plan.benchmarks), "task"),
    ]
    absent = list(plan.absences)
    without = f" ({len(absent)} do not exist)" if absent else ""
    yield f"{' x '.join(grid)} = {count_of(len(plan.cells), 'cell')}{without}"
    for reason in dict.fromkeys(each.reason for each in absent):
        yield f"Left out: {reason}"
    yield (
        f"{count_of(cost.images, 'distinct image')}, {count_of(cost.questions, 'question')}:"
        f" {count_of(cost.encodings, 'encoding')}, {count_of(cost.answers, 'answer')};"
        f" {size_of(cost.bitstream_bytes)} of bitstreams if they average 1 bit per pixel"
    )
    if cost.stored_encodings or cost.stored_answers:
        yield (
            f"Done already: {count_of(cost.stored_encodings, 'encoding')},"
            f" {count_of(cost.stored_answers, 'answer')}"
        )
    if cost.failed:
        retried = "tried again" if retry_failed else "kept; run.retry_failed=true tries them again"
        yield f"Of these, {count_of(cost.failed, 'answer')} failed: {retried}"


def count_of(number: int, thing: str) -> str:
    """Return so many of a thing in words."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def size_of(size: float) -> str:
    """Return so many bytes in words."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
