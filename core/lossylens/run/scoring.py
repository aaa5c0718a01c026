"""The third step of a run: a score and a rate for every cell, as soon as it is answered."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from lossylens.codec import bits_per_pixel
from lossylens.errors import PluginError
from lossylens.failure import guarded
from lossylens.grid.plan import Benchmark, CodecLevel, Model, Plan
from lossylens.run.aggregate import aggregate_of_sums, takes
from lossylens.run.collect import Material
from lossylens.store.database import Store
from lossylens.store.jsonable import short_hash, to_json
from lossylens.store.records import Cell, Rate
from lossylens.task import Aggregate, Primary, Resampling, Score

# Scores are computed in floating point.
_SLACK = 1e-6


class Scoring:
    """Scores cells whose predictions, data, rates or task version are new.

    Args:
        plan, material: what was asked.
        store: has the predictions; gets the scores.
        accept_failures: whether failures that may pass count as wrong answers; else a cell
            that has any is not scored.
    """

    def __init__(
        self, plan: Plan, material: Material, store: Store, *, accept_failures: bool
    ) -> None:
        self._plan, self._material, self._store = plan, material, store
        self._accept_failures = accept_failures
        self._digest = lru_cache(None)(self._digest_samples)
        self._clusters = lru_cache(None)(store.clusters)
        self.unscored = 0

    def score(self, model: Model, codec: CodecLevel) -> Iterator[tuple[Cell, Score, Rate]]:
        """Score the finished cells of *model* at *codec*; yield those that are new.

        Raises:
            LossylensError: a task cannot score its predictions, or breaks its contract; or
                the store cannot be written.
        """
        for benchmark, cell in self._plan.cells_of(model, codec):
            predictions = self._finished(cell)
            if predictions is not None:
                found = self._score(benchmark, codec, cell, predictions)
                if found is not None:
                    yield (cell, *found)
            else:
                self.unscored += 1
                # What was scored before is being asked again.
                if self._store.score_inputs(cell.key) is not None:
                    self._store.drop_score(cell.key)

    def _finished(self, cell: Cell) -> dict[str, str | None] | None:
        """Return the predictions of a cell that can be scored, else None."""
        stored = self._store.predictions(cell.key)
        # What an earlier start with a higher limit has asked does not count.
        asked = [each.sample.id for each in self._material.samples[cell.task_key]]
        if any(sample not in stored for sample in asked):
            return None
        if not self._accept_failures and self._store.count_transient(cell.key):
            return None
        return {sample: stored[sample] for sample in asked}

    def _score(
        self,
        benchmark: Benchmark,
        codec: CodecLevel,
        cell: Cell,
        predictions: Mapping[str, str | None],
    ) -> tuple[Score, Rate] | None:
        rate = _rate(codec, cell, self._material, self._store)
        limited = cell.task_key in self._material.limited
        version = benchmark.choice.found.plugin.version
        data = self._digest(cell.task_key)
        inputs = short_hash([version, sorted(predictions.items()), rate, data, limited])
        if self._store.score_inputs(cell.key) == inputs:
            return None
        who = f"task {benchmark.choice.spec.name!r}"
        with guarded(who, "score()"):
            score: Any = benchmark.task.score(predictions)
        for problem in score_problems(score, benchmark.choice.spec.primary):
            raise PluginError(f"{who} breaks its contract: {problem}")
        for problem in resampling_problems(score, predictions):
            raise PluginError(f"{who} breaks its contract: {problem}")
        clusters = self._clusters(cell.task_key)
        sums = score.resampling.sums(clusters) if score.resampling else None
        # Samples that were not asked are none, whatever the task makes of them.
        score = dataclasses.replace(score, samples=len(predictions), missing=0)
        self._store.set_score(cell.key, inputs, score, rate, limited=limited, sums=sums)
        return score, rate

    def _digest_samples(self, task: str) -> str:
        """Return a hash of what decides a score beside the predictions."""
        clusters = self._clusters(task)
        return short_hash(
            [
                [each.sample.id, to_json(dict(each.sample.fields)), clusters[each.sample.id]]
                for each in self._material.samples[task]
            ]
        )


def score_problems(score: Any, primary: Primary) -> Iterator[str]:
    """Yield how *score* departs from what :class:`~lossylens.task.Score` says."""
    if not isinstance(score, Score):
        yield f"score() returned {score!r:.80} instead of a Score"
        return
    try:
        value = float(score.value)
        metrics = [float(each) for each in _primary_metrics(score.metrics, primary)]
    except (TypeError, ValueError):
        yield f"the value of its Score is {score.value!r:.40}, or a metric is no number"
        return
    if not metrics:
        yield f"its primary metric {primary.name!r} is not among the metrics of its Score"
        return
    if math.isnan(value):
        return
    slack = _SLACK * max(1.0, abs(primary.high - primary.low))
    if all(abs(value - metric) > slack for metric in metrics):
        found = ", ".join(f"{metric:g}" for metric in metrics)
        yield f"the value of its Score is {value:g}, its primary metric {primary.name!r} {found}"
    if not primary.low - slack <= value <= primary.high + slack:
        span = f"{primary.low:g} to {primary.high:g}"
        yield f"its score of {value:g} is outside the range of its primary metric, {span}"


def _primary_metrics(metrics: Mapping[str, Any], primary: Primary) -> list[Any]:
    """Return the primary metric; in data of another split, what has its name in any split."""
    found: Any = metrics
    *_, last = names = primary.name.split("/")
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    if found is not None:
        return [found]
    groups = [each for each in metrics.values() if isinstance(each, Mapping)]
    return [each[last] for each in groups if last in each] if len(names) > 1 else []


def resampling_problems(score: Score, asked: Mapping[str, Any]) -> Iterator[str]:
    """Yield how the resampling of *score* departs from what it says of itself.

    Args:
        score: of a task; without a resampling it has no problem.
        asked: has the ids of the samples that were scored.
    """
    given: Any = score.resampling
    if given is None:
        return
    if not isinstance(given, Resampling) or not isinstance(given.parts, Mapping):
        yield f"the resampling of its Score is {given!r:.80} instead of a Resampling"
        return
    if given.aggregate not in tuple(Aggregate):
        known = ", ".join(Aggregate)
        yield f"the aggregate of its resampling is {given.aggregate!r:.40}, not one of {known}"
        return
    if not _numbers((given.factor,)):
        yield f"the factor of its resampling is {given.factor!r:.40}"
        return
    aggregate, lengths = Aggregate(given.aggregate), set()
    for sample, parts in given.parts.items():
        if sample not in asked:
            yield f"its resampling has parts of {sample!r:.40}, which is no sample that was asked"
            return
        if not _numbers(parts) or not takes(aggregate, len(parts)):
            yield f"its resampling has {parts!r:.60} of {sample!r:.40}, no parts of {aggregate}"
            return
        lengths.add(len(parts))
    if len(lengths) > 1:
        counts = " and ".join(map(str, sorted(lengths)))
        yield f"its resampling has {counts} parts of different samples; all must have as many"
        return
    for sums in given.sums(dict.fromkeys(given.parts, "all")).values():
        found, value = float(aggregate_of_sums(aggregate, sums, given.factor)), float(score.value)
        both_nan = math.isnan(found) and math.isnan(value)
        if not both_nan and not math.isclose(found, value, rel_tol=_SLACK, abs_tol=1e-9):
            yield f"its Score has the value {value:.9g}, but its resampling gives {found:.9g}"


def _numbers(values: Any) -> bool:
    try:
        return isinstance(values, tuple | list) and all(math.isfinite(each) for each in values)
    except TypeError:
        return False


def _rate(codec: CodecLevel, cell: Cell, material: Material, store: Store) -> Rate:
    """Return the rate over the distinct images of a cell, those that failed left out."""
    used = {image for each in material.samples[cell.task_key] for image in each.compressed}
    pictures = [
        picture
        for sha256, picture in sorted(material.pictures.items())
        if sha256 in used and not picture.failure
    ]
    nominal = codec.choice.spec.nominal_bpp
    if nominal is not None:
        return Rate(len(pictures), nominal, nominal)
    encodings = store.encodings(cell.codec_key)
    coded = [
        (picture, encoding.size)
        for picture in pictures
        if (encoding := encodings.get(picture.sha256)) and encoding.size is not None
    ]
    if not coded:
        return Rate(0, None, None)
    rates = [bits_per_pixel(size, *picture.size) for picture, size in coded]
    bits = sum(8 * size for _, size in coded)
    pixels = sum(picture.width * picture.height for picture, _ in coded)
    return Rate(len(coded), sum(rates) / len(rates), bits / pixels)
