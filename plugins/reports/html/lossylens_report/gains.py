"""What adaptors win back: per codec, on uncompressed images, and per topic of the questions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from lossylens.cells import CellResult
from numpy.typing import NDArray

from lossylens_report.metrics.bd import bd_metric
from lossylens_report.metrics.bootstrap import BD_REPLICATES, interval, resampled_sums
from lossylens_report.metrics.curve import Curve, CurveError
from lossylens_report.replicates import Replicates
from lossylens_report.run_results import TopicGain
from lossylens_report.verdicts import TaskVerdicts

#: Topics of a task beyond which they are no topics.
_MOST_TOPICS = 40


@dataclass(frozen=True)
class CodecGain:
    """The BD-metric of an adapted model minus that of the model as it is, on one codec.

    Attributes:
        cells: of the adapted model.
        gain: in points of the score, or the reason why there is none.
        interval: of the gain, draws of images being the same for both; None without draws.
        loss: BD-metric of the model as it is, if there is one.
    """

    cells: tuple[CellResult, ...]
    gain: float | str
    interval: tuple[float, float] | None
    loss: float | None

    @property
    def seen(self) -> str:
        """Whether the training had the codec: yes, no, or at some of the levels."""
        unseen = [cell.unseen for cell in self.cells]
        if all(unseen):
            return "unseen"
        return "some levels" if any(unseen) else "yes"

    @property
    def recovered(self) -> float | None:
        """The gain in percent of the loss; None without a loss."""
        if isinstance(self.gain, str) or self.loss is None or self.loss >= 0:
            return None
        return 100 * self.gain / -self.loss


def codec_gain(
    adapted: Sequence[CellResult],
    plain: Sequence[CellResult],
    loss: float | None,
    replicates: Mapping[str, Replicates],
) -> CodecGain:
    """Return the gain of one adapted model on one codec.

    Args:
        adapted, plain: cells of the model with the adaptor and without.
        loss: BD-metric of the latter.
        replicates: bootstrap replicates by cell key.
    """
    by_level = {cell.level: cell for cell in plain}
    shared = [cell for cell in adapted if cell.level in by_level]
    pairs = [(cell, by_level[cell.level]) for cell in shared]
    try:
        gain: float | str = _difference([((a.bpp, a.value), (p.bpp, p.value)) for a, p in pairs])
    except CurveError as error:
        return CodecGain(tuple(adapted), str(error), None, loss)
    return CodecGain(tuple(adapted), gain, _interval(pairs, replicates), loss)


Point = tuple[float, float]


def _difference(points: Sequence[tuple[Point, Point]]) -> float:
    """Return the difference of BD-metrics; the uncompressed score cancels."""
    adapted, plain = (Curve.of(pair[place] for pair in points) for place in (0, 1))
    return bd_metric(adapted, 0.0) - bd_metric(plain, 0.0)


def _interval(
    pairs: Sequence[tuple[CellResult, CellResult]], replicates: Mapping[str, Replicates]
) -> tuple[float, float] | None:
    drawn: list[tuple[Replicates, Replicates]] = []
    for adapted, plain in pairs:
        one, other = replicates.get(adapted.key), replicates.get(plain.key)
        if one is None or other is None or one.rates is None or other.rates is None:
            return None
        drawn.append((one, other))
    values: list[float] = []
    for number in range(len(drawn[0][0].scores)):
        if len(values) == BD_REPLICATES:
            break
        points = [tuple(_point(each, number) for each in pair) for pair in drawn]
        if np.isfinite(points).all():
            try:
                values.append(_difference([(one, other) for one, other in points]))
            except CurveError:
                return None
    return interval(np.array(values)) if values else None


def _point(replicates: Replicates, number: int) -> Point:
    assert replicates.rates is not None
    return float(replicates.rates[number]), float(replicates.scores[number])


def paired_interval(
    one: CellResult, other: CellResult, replicates: Mapping[str, Replicates]
) -> tuple[float, float] | None:
    """Return the interval of the score of *one* minus that of *other*; None without draws."""
    found = [replicates.get(cell.key) for cell in (one, other)]
    if found[0] is None or found[1] is None:
        return None
    difference = found[0].scores - found[1].scores
    return interval(difference) if np.isfinite(difference).any() else None


def topic_gains(cells: Sequence[CellResult], judged: TaskVerdicts) -> Iterator[TopicGain]:
    """Yield the gain of each adapted model on each codec by topic, all levels together.

    Args:
        cells: of one task.
        judged: its verdicts.
    """
    topics = list(dict.fromkeys(each for each in judged.topics if each))
    if not 1 < len(topics) <= _MOST_TOPICS:
        return
    plain = {(c.vlm, c.codec, c.level): c for c in cells if not c.adaptor}
    adapted: dict[tuple[str, str], list[CellResult]] = {}
    for cell in cells:
        if cell.adaptor and not cell.uncompressed:
            adapted.setdefault((cell.model, cell.codec), []).append(cell)
    place = np.array([topics.index(each) if each else -1 for each in judged.topics])
    for (_, codec), of_codec in adapted.items():
        pairs = [
            (judged.verdicts[cell.key], judged.verdicts[base.key])
            for cell in of_codec
            if (base := plain.get((cell.vlm, codec, cell.level)))
        ]
        if pairs:
            yield from _of_codec(of_codec[0], topics, place, judged, pairs)


def _of_codec(
    cell: CellResult,
    topics: Sequence[str],
    place: NDArray[np.int64],
    judged: TaskVerdicts,
    pairs: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]],
) -> Iterator[TopicGain]:
    # By image: for each topic, credits with the adaptor, without, and how many.
    sums = np.zeros((len(judged.images), 3 * len(topics)))
    for with_adaptor, without in pairs:
        known = np.isfinite(with_adaptor) & np.isfinite(without) & (judged.image >= 0)
        known &= place >= 0
        image, column = judged.image[known], 3 * place[known]
        np.add.at(sums, (image, column), with_adaptor[known])
        np.add.at(sums, (image, column + 1), without[known])
        np.add.at(sums, (image, column + 2), 1.0)
    if len(sums) < 2:
        return
    total, drawn = sums.sum(axis=0), resampled_sums(sums)
    for number, topic in enumerate(topics):
        adapted, plain, count = total[3 * number : 3 * number + 3]
        if not count:
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            gains = (drawn[:, 3 * number] - drawn[:, 3 * number + 1]) / drawn[:, 3 * number + 2]
        low, high = interval(100 * gains)
        yield TopicGain(
            vlm=cell.vlm,
            adaptor=cell.adaptor,
            codec=cell.codec,
            task=cell.task,
            topic=topic,
            questions=round(count / len(pairs)),
            plain=100 * plain / count,
            adapted=100 * adapted / count,
            low=low,
            high=high,
        )
