"""What a report says in words: the main findings, and what to know before trusting them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from lossylens_report.analysis import (
    Analysis,
    GroupAnalysis,
    falling_points,
    scaling,
    scaling_trend,
)
from lossylens_report.metrics.operating import SHARES
from lossylens_report.run_results import SourceResults, Unfinished

#: The share whose operating point is told first.
_SHARE = 0.95

#: An interval wider than this share of the uncompressed score is a warning.
_WIDE = 0.1


@dataclass(frozen=True)
class Warnings:
    """Warnings of one kind.

    Attributes:
        title: of the kind, with its count.
        texts: one for each case.
    """

    title: str
    texts: tuple[str, ...]


def progress(sources: Sequence[SourceResults]) -> list[str]:
    """Return what of the runs is not shown: cells not finished, and earlier configurations."""
    return [text for source in sources for text in _progress(source)]


def _progress(source: SourceResults) -> Iterator[str]:
    waiting = [cell for cell in source.unfinished if not cell.scored]
    state = f" (the run {source.state})" if source.state else ""
    go_on = "`lossylens run` with the same configuration goes on with it."
    if source.published:
        return
    if not source.planned:
        yield f"{source.name}: nothing is planned or scored yet{state}. {go_on}"
    elif len(waiting) == source.planned:
        yield (
            f"{source.name}: nothing is scored yet{state}: none of {_cells(source.planned)} is"
            f" finished, {_answers(waiting)}. {go_on}"
        )
    elif waiting:
        verb = "is" if len(waiting) == 1 else "are"
        yield (
            f"{source.name}: {len(waiting)} of {_cells(source.planned)} {verb} not finished"
            f"{state} and not shown, {_answers(waiting)}. {go_on}"
        )
    stale = [cell for cell in source.unfinished if cell.scored]
    if stale:
        verb = "has a score" if len(stale) == 1 else "have scores"
        yield (
            f"{source.name}: {len(stale)} of {_cells(source.planned)} {verb} of an earlier start,"
            f" {_answers(stale)}{'' if waiting else state}. {go_on}"
        )
    if source.earlier:
        verb = "is" if source.earlier == 1 else "are"
        yield (
            f"{source.name}: {_cells(source.earlier)} of earlier configurations {verb} in this"
            " folder and not shown."
        )


def _cells(count: int) -> str:
    return "1 cell" if count == 1 else f"{count} cells"


def _answers(cells: Sequence[Unfinished]) -> str:
    answered, questions = (sum(getattr(each, of) for each in cells) for of in _COUNTS)
    whose = "its" if len(cells) == 1 else "their"
    return f"{answered} of {whose} {questions} questions answered"


_COUNTS = ("answered", "questions")


def findings(analysis: Analysis) -> list[str]:
    """Return the main findings, the most useful first."""
    of_tasks = [f"{group.group.title}: {text}" for group in analysis.groups if (text := _of(group))]
    return [*_headline(analysis), *of_tasks, *_robust(analysis), *_sizes(analysis)]


def _headline(analysis: Analysis) -> Iterator[str]:
    """Say which codecs lead at equal rate, over all tasks where the order is clear."""
    groups = [group for group in analysis.groups if len(group.codec_ranking.ranks) > 1]
    orders = [list(group.codec_ranking.ranks) for group in groups if not _tied(group)]
    if len(orders) < 2:
        return
    leaders = Counter(names[0] for names in orders)
    losers = Counter(names[-1] for names in orders)
    (best, count), *_ = leaders.most_common()
    (worst, least), *_ = losers.most_common()
    if len({name for names in orders for name in names}) == 2:
        yield f"At equal rate {best} scores better than {worst} on {count} of {len(orders)} tasks."
        return
    yield (
        f"At equal rate {best} scores best on {count} of {len(orders)} tasks{_rest(leaders)},"
        f" and {worst} worst on {least}{_rest(losers)}."
    )


def _rest(names: Counter[str]) -> str:
    """Return all but the most common, such as `` (b on 2, c on 1)``."""
    others = names.most_common()[1:]
    return f" ({', '.join(f'{name} on {number}' for name, number in others)})" if others else ""


def _tied(group: GroupAnalysis) -> bool:
    """Whether first and last codec cannot be told apart: intervals that overlap, of one model."""
    if len(group.ratings) > 1:
        return False
    first, *_, last = group.codec_ranking.ranks
    model = next(iter(group.ratings))
    one, other = (group.curves[model, codec].bd_interval for codec in (first, last))
    return bool(one and other and one[0] <= other[1] and other[0] <= one[1])


def _of(group: GroupAnalysis) -> str:
    return " ".join(text for text in (_cheapest(group), _leader(group)) if text)


def _cheapest(group: GroupAnalysis) -> str:
    """Name the codec that keeps 95 % for most models, and of such the one of least rate."""
    place = SHARES.index(_SHARE)
    rates: dict[str, list[tuple[float, bool]]] = {}
    best, best_codec, models = 0.0, "", set()
    for curve in group.curves.values():
        if isinstance(curve.operating, str) or curve.adapted:
            continue
        models.add(curve.model)
        point = curve.operating[place]
        if point.bpp is not None:
            rates.setdefault(curve.codec, []).append((point.bpp, point.bound))
        if point.best > best:
            best, best_codec = point.best, curve.codec
    if not models:
        return ""
    if not rates:
        return (
            "no rate point keeps 95 % of the uncompressed score; the best,"
            f" {best_codec}, keeps {100 * best:.1f} %."
        )
    most = max(map(len, rates.values()))
    codec = min(
        (name for name, found in rates.items() if len(found) == most),
        key=lambda name: median(rate for rate, _ in rates[name]),
    )
    rate = median(rate for rate, _ in rates[codec])
    bound = "at most " if any(bounded for _, bounded in rates[codec]) else ""
    where = f"{bound}{rate:.3f} bpp"
    if len(models) == 1:
        return f"{codec} keeps 95 % of the uncompressed score at the least rate, {where}."
    return (
        f"{codec} keeps 95 % of the uncompressed score for {most} of {len(models)} VLMs, at a"
        f" median of {where}: no other codec does so for more VLMs, or for as many at a lower rate."
    )


def _leader(group: GroupAnalysis) -> str:
    ranking = group.codec_ranking
    if len(ranking.ranks) < 2:
        return ""
    first, *_, last = ranking.ranks
    tie = [name for name, value in ranking.ranks.items() if value == ranking.ranks[first]]
    verb = "scores" if len(tie) == 1 else "score"
    if _tied(group):
        return "The codecs' confidence intervals overlap: no clear order at equal rate."
    over = "" if ranking.judgements == 1 else f" (mean rank over {ranking.judgements} VLMs)"
    if len(tie) == len(ranking.ranks):
        return f"At equal rate {' and '.join(tie)} score alike{over}."
    if len(ranking.ranks) == 2:
        return f"At equal rate {first} scores better than {last}{over}."
    return f"At equal rate {' and '.join(tie)} {verb} best and {last} worst{over}."


def _robust(analysis: Analysis) -> Iterator[str]:
    ranks = analysis.robustness.ranks
    if len(ranks) > 1:
        first, *_, last = ranks
        yield (
            f"Of the VLMs, {first} keeps most of its score and {last} least (mean rank over"
            f" {analysis.robustness.judgements} pairs of codec and task)."
        )


def _sizes(analysis: Analysis) -> Iterator[str]:
    slopes = {}
    for group in analysis.groups:
        found = scaling_trend(scaling(group))
        if not isinstance(found, str):
            slopes[group.group.title] = found
    helped = [task for task, each in slopes.items() if each.rank_correlation < -_CLEAR]
    hurt = [task for task, each in slopes.items() if each.rank_correlation > _CLEAR]
    if slopes:
        yield (
            "Larger VLMs lose"
            f" less on {_list(helped) or 'no task'} and more on {_list(hurt) or 'none'}"
            f" (rank correlation of size and drop beyond ±{_CLEAR}, {len(slopes)} tasks)."
        )


#: Rank correlation from which a trend is named.
_CLEAR = 0.5


def _list(names: list[str]) -> str:
    return ", ".join(names)


def warnings(analysis: Analysis) -> list[Warnings]:
    """Return what a reader must know before trusting the scores, by kind."""
    kinds = {
        "Shown apart, because they cannot be compared": analysis.comparison.apart,
        "Of one name, but not the same": analysis.comparison.unlike,
        "Failures": tuple(_failures(analysis)),
        "Cells without a score": tuple(
            f"{source.name}: {cell}."
            for source in analysis.comparison.sources
            for cell in source.unscored
        ),
        "Curves without a BD-metric": tuple(_refused(analysis)),
        "Curves that fall as the rate rises": tuple(_falling(analysis)),
        "Wide confidence intervals": tuple(_wide(analysis)),
        "Notes on the sources": tuple(
            f"{source.name}: {note.text}"
            for source in analysis.comparison.sources
            for note in source.notes
        ),
    }
    return [Warnings(f"{title} ({len(texts)})", texts) for title, texts in kinds.items() if texts]


def _failures(analysis: Analysis) -> Iterator[str]:
    for source in analysis.comparison.sources:
        for stage, reason, count in source.failures:
            things = "failure" if count == 1 else "failures"
            yield f"{source.name}: {count} {things} at {stage}: {reason}"
    for group in analysis.groups:
        for cell in group.group.cells:
            if cell.failed:
                yield f"{cell}: {cell.failed} of {cell.samples} samples failed (scored wrong)."
            if cell.missing:
                yield f"{cell}: {cell.missing} of {cell.samples} samples have no prediction."


def _refused(analysis: Analysis) -> Iterator[str]:
    for group in analysis.groups:
        for curve in group.curves.values():
            if isinstance(curve.bd, str):
                yield f"{curve.model}, {curve.codec}, {group.group.title}: {curve.bd}."


def _falling(analysis: Analysis) -> Iterator[str]:
    for group in analysis.groups:
        for curve in group.curves.values():
            value = {cell.level: cell.value for cell in curve.cells}
            for low, high in falling_points(curve, higher_is_better=group.group.higher_is_better):
                yield (
                    f"{curve.model}, {curve.codec}, {group.group.title}: {high}"
                    f" ({value[high]:.2f}) scores worse than {low} ({value[low]:.2f})."
                )


def _wide(analysis: Analysis) -> Iterator[str]:
    for group in analysis.groups:
        for curve in group.curves.values():
            reference = curve.reference
            for cell in curve.cells:
                if cell.interval is None or reference is None or reference.value <= 0:
                    continue
                low, high = cell.interval
                if high - low > _WIDE * reference.value:
                    yield f"{cell}: {cell.value:.2f}, 95 % interval {low:.2f} to {high:.2f}."


def notes_on(analysis: Analysis, subject: str) -> list[str]:
    """Return the notes of all sources about a task, or about the ``"gaps"``."""
    return [
        f"{source.name}: {note.text}"
        for source in analysis.comparison.sources
        for note in source.notes
        if subject in note.about
    ]
