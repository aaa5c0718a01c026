"""The measures of a comparison: what the tables, charts and findings of a report show."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, groupby

import numpy as np
from lossylens.cells import CellResult

from lossylens_report.comparing import Comparison, Group
from lossylens_report.gains import CodecGain, codec_gain, paired_interval
from lossylens_report.metrics.bd import bd_metric
from lossylens_report.metrics.bootstrap import BD_REPLICATES, interval
from lossylens_report.metrics.correlation import Correlations, RatePoint, correlate
from lossylens_report.metrics.curve import Curve, CurveError, falls
from lossylens_report.metrics.gap import Gap
from lossylens_report.metrics.operating import SHARES, OperatingPoint, operating_point
from lossylens_report.metrics.ranking import Ranking, rank
from lossylens_report.metrics.rating import Rating, shared_ratings
from lossylens_report.metrics.scaling import Trend, trend

#: A number, or the reason why there is none.
Outcome = float | str


@dataclass(frozen=True)
class CodecCurve:
    """One model on one codec: the rate points with all that is computed of them.

    Attributes:
        cells: with a known rate, in ascending order of it.
        reference: the uncompressed cell of the VLM without adaptor, or else with it.
        bd, bd_akima: BD-metric over the codec's own range, by interpolant.
        bd_interval: of ``bd``, by the bootstrap; None without replicates.
        operating: one for each of :data:`~lossylens_report.metrics.operating.SHARES`, or
            the reason why there is none.
        adapted: whether the model has an adaptor.
    """

    model: str
    codec: str
    cells: tuple[CellResult, ...]
    reference: CellResult | None
    bd: Outcome
    bd_akima: Outcome
    bd_interval: tuple[float, float] | None
    operating: tuple[OperatingPoint, ...] | str
    adapted: bool

    @property
    def kept(self) -> float | None:
        """Mean score over the codec's own range, in percent of the uncompressed score."""
        if isinstance(self.bd, str) or self.reference is None or self.reference.value <= 0:
            return None
        return 100 * (1 + self.bd / self.reference.value)


@dataclass(frozen=True)
class GapResult:
    """The gap of one adapted model at one rate point.

    Attributes:
        interval: of the generalisation gap, over images; None without draws.
    """

    cell: CellResult
    gap: Gap
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class CleanChange:
    """What an adaptor changes on uncompressed images.

    Attributes:
        cell, plain: with the adaptor and without.
        interval: of the difference, over images; None without draws.
    """

    cell: CellResult
    plain: CellResult
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class GroupAnalysis:
    """All measures of one group of comparable cells.

    Attributes:
        curves: by model and codec.
        ratings: by model, the codecs' ratings over shared ranges, more being better.
        gaps: of the adapted models.
        gains: of the adapted models, codec by codec.
        clean: of the adapted models, what changes on uncompressed images.
    """

    group: Group
    curves: Mapping[tuple[str, str], CodecCurve]
    ratings: Mapping[str, Mapping[str, Rating]]
    gaps: tuple[GapResult, ...]
    gains: tuple[CodecGain, ...]
    clean: tuple[CleanChange, ...]

    @property
    def models(self) -> list[str]:
        """Models in order of appearance."""
        return list(dict.fromkeys(cell.model for cell in self.group.cells))

    @property
    def plain_models(self) -> list[str]:
        """Those without an adaptor."""
        return list(dict.fromkeys(cell.model for cell in self.group.cells if not cell.adaptor))

    @property
    def codecs(self) -> list[str]:
        """Codecs in order of appearance, without the uncompressed."""
        return list(dict.fromkeys(codec for _, codec in self.curves))

    @cached_property
    def codec_ranking(self) -> Ranking:
        """Codecs by mean rank of their ratings over the models, at equal rate."""
        return rank(
            {
                model: {codec: each.value for codec, each in ratings.items() if each.pool == 0}
                for model, ratings in self.ratings.items()
            }
        )


@dataclass(frozen=True)
class Analysis:
    """All measures of a report.

    Attributes:
        correlations: of the share of the score that tasks keep, of the rate and of
            fidelity metrics, over (model, codec, rate point).
        robustness: VLMs by mean rank of the share they keep, over codecs and tasks.
    """

    comparison: Comparison
    groups: tuple[GroupAnalysis, ...]
    correlations: Correlations
    robustness: Ranking

    @property
    def models(self) -> list[str]:
        """Models in order of appearance."""
        return list(dict.fromkeys(model for group in self.groups for model in group.models))

    @property
    def codecs(self) -> list[str]:
        """Codecs in order of appearance."""
        return list(dict.fromkeys(codec for group in self.groups for codec in group.codecs))


Fidelity = Mapping[RatePoint, Mapping[str, float]]


def analyse(comparison: Comparison, fidelity: Fidelity | None = None) -> Analysis:
    """Compute all measures of *comparison*.

    Args:
        comparison: the cells, grouped.
        fidelity: metrics by codec, level and task, to be correlated with the scores.
    """
    groups = tuple(_group(group) for group in comparison.groups)
    return Analysis(comparison, groups, _correlations(groups, fidelity or {}), _robustness(groups))


def outcome(measure: Callable[[], float]) -> Outcome:
    """Return a measure, or the reason why there is none."""
    try:
        return measure()
    except CurveError as error:
        return str(error)


def _group(group: Group) -> GroupAnalysis:
    ordered = sorted(
        (cell for cell in group.cells if not cell.uncompressed),
        key=lambda cell: (cell.model, cell.codec),
    )
    of_pair = {
        key: list(cells)
        for key, cells in groupby(ordered, key=lambda cell: (cell.model, cell.codec))
    }
    order = dict.fromkeys((cell.model, cell.codec) for cell in group.cells if not cell.uncompressed)
    curves = {key: _curve(group, of_pair[key]) for key in order}
    return GroupAnalysis(
        group,
        curves,
        _ratings(group, curves),
        tuple(_gaps(group)),
        tuple(_gains(group, curves)),
        tuple(_clean(group)),
    )


def _curve(group: Group, cells: Sequence[CellResult]) -> CodecCurve:
    known = sorted((cell for cell in cells if math.isfinite(cell.bpp)), key=lambda c: c.bpp)
    base = reference_of(group, cells[0])
    value = math.nan if base is None else base.value

    def curve() -> Curve:
        if not known:
            raise CurveError("the rates are not known")
        return Curve.of((cell.bpp, cell.value) for cell in known)

    return CodecCurve(
        cells[0].model,
        cells[0].codec,
        tuple(known),
        base,
        outcome(lambda: bd_metric(curve(), value)),
        outcome(lambda: bd_metric(curve(), value, "akima")),
        _bd_interval(group, known, base),
        _operating(group, curve, value),
        bool(cells[0].adaptor),
    )


def reference_of(group: Group, cell: CellResult) -> CellResult | None:
    """Return the uncompressed cell of the same VLM, without its adaptor where there is one."""
    found = [each for each in group.cells if each.uncompressed and each.vlm == cell.vlm]
    plain = [each for each in found if not each.adaptor]
    own = [each for each in found if each.adaptor == cell.adaptor]
    return next(iter([*plain, *own]), None)


def _operating(
    group: Group, curve: Callable[[], Curve], reference: float
) -> tuple[OperatingPoint, ...] | str:
    if not group.higher_is_better:
        return "of this metric less is better"
    try:
        return tuple(operating_point(curve(), reference, share) for share in SHARES)
    except CurveError as error:
        return str(error)


def _bd_interval(
    group: Group, cells: Sequence[CellResult], base: CellResult | None
) -> tuple[float, float] | None:
    """Return the bootstrap interval of the BD-metric; score and rate vary together."""
    drawn = [group.replicates.get(cell.key) for cell in cells]
    reference = group.replicates.get(base.key) if base else None
    if reference is None or not drawn or len(cells) < 2:
        return None
    values: list[float] = []
    for number in range(len(reference.scores)):
        if len(values) == BD_REPLICATES:
            break
        points = [
            (float(each.rates[number]), float(each.scores[number]))
            for each in drawn
            if each is not None and each.rates is not None
        ]
        if len(points) < len(cells):
            return None
        # Not every draw has a score.
        if not np.isfinite([reference.scores[number], *chain(*points)]).all():
            continue
        try:
            value = bd_metric(Curve.of(points), float(reference.scores[number]))
        except CurveError:
            return None
        values.append(value)
    return interval(np.array(values)) if values else None


def _ratings(
    group: Group, curves: Mapping[tuple[str, str], CodecCurve]
) -> dict[str, dict[str, Rating]]:
    by_model: dict[str, dict[str, Curve]] = {}
    for (model, codec), each in curves.items():
        try:
            curve = Curve.of((cell.bpp, cell.value) for cell in each.cells)
        except CurveError:
            continue
        by_model.setdefault(model, {})[codec] = curve if group.higher_is_better else curve.negated()
    return {model: shared_ratings(of_model) for model, of_model in by_model.items()}


def _gaps(group: Group) -> list[GapResult]:
    if not group.higher_is_better:
        return []
    places = {(c.vlm, c.adaptor, c.codec, c.level): c for c in group.cells}
    found = []
    for cell in group.cells:
        base = places.get((cell.vlm, "", cell.codec, cell.level))
        original = reference_of(group, cell)
        if cell.adaptor and not cell.uncompressed and base and original and not original.adaptor:
            gap = Gap(original.value, base.value, cell.value)
            found.append(GapResult(cell, gap, paired_interval(cell, base, group.replicates)))
    return found


def _gains(group: Group, curves: Mapping[tuple[str, str], CodecCurve]) -> Iterator[CodecGain]:
    for (_, codec), curve in curves.items():
        if not curve.cells or not curve.cells[0].adaptor:
            continue
        plain = curves.get((curve.cells[0].vlm, codec))
        # One that is measured at some points alone has no curve.
        if plain is not None and len(curve.cells) == len(plain.cells):
            loss = None if isinstance(plain.bd, str) else plain.bd
            yield codec_gain(curve.cells, plain.cells, loss, group.replicates)


def _clean(group: Group) -> Iterator[CleanChange]:
    plain = {cell.vlm: cell for cell in group.cells if cell.uncompressed and not cell.adaptor}
    for cell in group.cells:
        if cell.uncompressed and cell.adaptor and cell.vlm in plain:
            base = plain[cell.vlm]
            yield CleanChange(cell, base, paired_interval(cell, base, group.replicates))


def falling_points(curve: CodecCurve, *, higher_is_better: bool) -> list[tuple[str, str]]:
    """Return pairs of neighbouring levels of which the one of higher rate scores worse."""
    sign = 1 if higher_is_better else -1
    points = Curve(
        tuple(cell.bpp for cell in curve.cells), tuple(sign * cell.value for cell in curve.cells)
    )
    levels = [cell.level for cell in curve.cells]
    return [(levels[place - 1], levels[place]) for place in falls(points)]


def scaling(group: GroupAnalysis, codec: str | None = None) -> dict[str, tuple[float, float]]:
    """Return size in millions and drop in percent of the uncompressed score, by VLM.

    Args:
        group: one task.
        codec: one codec; None for the mean over the codecs that all VLMs have.
    """
    models = group.plain_models
    sizes = {cell.model: cell.parameters for cell in group.group.cells}
    kept = {key: each.kept for key, each in group.curves.items()}
    sized = [model for model in models if sizes[model]]
    codecs = [codec] if codec else group.codecs
    full = [c for c in codecs if all(kept.get((m, c)) is not None for m in sized)]
    found = {}
    for model in sized:
        drops = [100 - value for c in full if (value := kept.get((model, c))) is not None]
        size = sizes[model]
        if drops and size:
            found[model] = (size, sum(drops) / len(drops))
    return found


def scaling_trend(points: Mapping[str, tuple[float, float]]) -> Trend | str:
    """Return the line through drop over size, or the reason why there is none."""
    try:
        return trend([size for size, _ in points.values()], [drop for _, drop in points.values()])
    except CurveError as error:
        return str(error)


def _robustness(groups: Sequence[GroupAnalysis]) -> Ranking:
    """Rank the VLMs that have at least half of the tasks."""
    plain = {model for group in groups for model in group.plain_models}
    counts = {model: sum(model in group.models for group in groups) for model in plain}
    items = {model for model in plain if 2 * counts[model] >= len(groups)}
    table: dict[str, dict[str, float]] = {}
    for group in groups:
        for (model, codec), curve in group.curves.items():
            if model in items and curve.kept is not None:
                judgement = table.setdefault(f"{group.group.title}, {codec}", {})
                judgement[model] = curve.kept
    return rank(table)


def _correlations(groups: Sequence[GroupAnalysis], fidelity: Fidelity) -> Correlations:
    """Correlate over the rate points, which are numbered by rate within each codec.

    Levels of one codec may be named differently from task to task; their order by
    rate is what they share.
    """
    rows: dict[tuple[str, str, int], dict[str, list[float]]] = {}
    for group in groups:
        for (model, codec), curve in group.curves.items():
            if curve.reference is None or curve.reference.value <= 0:
                continue
            for number, cell in enumerate(curve.cells):
                row = rows.setdefault((model, codec, number), {})
                share = 100 * cell.value / curve.reference.value
                row.setdefault(group.group.title, []).append(share)
                row.setdefault("bpp", []).append(cell.bpp)
                metrics = {
                    **fidelity.get((codec, cell.level, ""), {}),
                    **fidelity.get((codec, cell.level, group.group.task), {}),
                    **cell.fidelity,
                }
                for name, value in metrics.items():
                    row.setdefault(name, []).append(value)
    names = [group.group.title for group in groups]
    names += sorted({name for row in rows.values() for name in row} - set(names))
    columns = {
        name: [float(np.mean(row[name])) if name in row else math.nan for row in rows.values()]
        for name in names
    }
    return correlate(columns)
