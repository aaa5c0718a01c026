"""Tables of what adaptors win back."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from lossylens_report.analysis import Analysis
from lossylens_report.metrics.split import LEAST_SEEDS, Estimate
from lossylens_report.run_results import GapSplit, SourceResults, SplitPoint
from lossylens_report.table import Table, Value

#: Digits after the point of shares in percent.
_PERCENT = 1


def gain_table(analysis: Analysis) -> Table:
    """Return the BD gain of each adapted model on each codec and task."""
    return Table(
        "adaptor-gains",
        "BD gain of adaptors",
        (
            *("task", "VLM", "adaptor", "codec", "trained on", "levels", "BD-metric without"),
            *("BD gain", "95 % low", "95 % high", "recovered, %"),
        ),
        tuple(
            (
                *(group.group.title, each.cells[0].vlm, each.cells[0].adaptor),
                *(each.cells[0].codec, each.seen, len(each.cells), each.loss),
                *(each.gain, *(each.interval or (None, None))),
                None if each.recovered is None else round(each.recovered, _PERCENT),
            )
            for group in analysis.groups
            for each in group.gains
        ),
        "BD-metric with the adaptor minus without, over the codec's own rates; recovered: in"
        " percent of what compression costs without. Intervals draw images, the same for both.",
    )


def clean_table(analysis: Analysis) -> Table:
    """Return what adaptors change on images as they are."""
    return Table(
        "adaptor-uncompressed",
        "What adaptors change on uncompressed images",
        ("task", "VLM", "adaptor", "without", "with", "change", "95 % low", "95 % high"),
        tuple(
            (
                *(group.group.title, each.cell.vlm, each.cell.adaptor),
                *(each.plain.value, each.cell.value, each.cell.value - each.plain.value),
                *(each.interval or (None, None)),
            )
            for group in analysis.groups
            for each in group.clean
        ),
    )


def topic_table(sources: Sequence[SourceResults]) -> Table:
    """Return what adaptors change by topic of the questions."""
    return Table(
        "adaptor-topics",
        "Gains of adaptors by topic of the questions",
        (
            *("task", "VLM", "adaptor", "codec", "topic", "questions", "without", "with", "gain"),
            *("95 % low", "95 % high"),
        ),
        tuple(
            (
                *(each.task, each.vlm, each.adaptor, each.codec, each.topic, each.questions),
                *(each.plain, each.adapted, each.adapted - each.plain, each.low, each.high),
            )
            for source in sources
            for each in source.topics
        ),
        "Right answers in percent, all levels of a codec together.",
    )


SPLIT = (
    "Figures with their 95 % interval, on images by which nothing was chosen. Information gap: what"
    " the best adapted model still lacks, an upper bound, since no training is known to be the"
    " best; generalisation gap: what it wins back, a lower bound. A gap below zero is printed as it"
    " is."
)


def split_tables(splits: Sequence[GapSplit]) -> list[Table]:
    """Return the gap splits for readers: the split, and what stands beside it."""
    points = [(each, point) for each in splits for point in each.points]
    return [
        table
        for table in (
            Table(
                "gap-split",
                "Gap split",
                (
                    *("task", "codec", "level", "bpp", "tuned as", "uncompressed", "compressed"),
                    *("adapted", "performance gap", "information gap (at most)"),
                    *("generalisation gap (at least)", "recovered, %"),
                ),
                tuple(_split_row(point) for _, point in points),
                " ".join([SPLIT, *_said(splits)]),
                3,
            ),
            Table(
                "gap-split-beside",
                "Beside the gap split",
                (
                    *("task", "codec", "level", "reachable gain", "one adaptor", "its gain"),
                    *("tuned, uncompressed", "control", "control, uncompressed"),
                ),
                tuple(_beside_row(point) for _, point in points),
                "Reachable: the best of all trainings at this point, which may serve it alone; one"
                " adaptor: the joint training that is best over all points; tuned, uncompressed:"
                " what the reachable one changes on images as they are; control: what tuning on"
                " uncompressed images alone gains. In points of the score.",
            ),
            _ways(splits),
            _way_gains(splits),
            _arms(splits),
        )
        if table.rows
    ]


def _ways(splits: Sequence[GapSplit]) -> Table:
    """Return the gain of every way of tuning, each a column."""
    names = list(
        dict.fromkeys(
            name
            for each in splits
            for name in (*(name for _, name in each.clean), *_measured_ways(each))
        )
    )
    rows: list[tuple[Value, ...]] = []
    for each in splits:
        for task in each.images:
            clean = (_figure(each.clean.get((task, name))) for name in names)
            rows.append((task, "uncompressed", "", *clean))
            rows += [
                (
                    *(task, point.codec, _level(point)),
                    *(_figure(_gain_of(point, name)) for name in names),
                )
                for point in each.points
                if point.task == task
            ]
    return Table(
        "gap-split-ways",
        "Gain of every way of tuning",
        ("task", "codec", "level", *names),
        tuple(rows),
        "In points of the score, mean over the training seeds with its 95 % interval, on the"
        " reported images. A way that is named by a point was measured there alone.",
    )


def _measured_ways(split: GapSplit) -> Iterator[str]:
    for point in split.points:
        yield from point.gains


def _gain_of(point: SplitPoint, name: str) -> Estimate | None:
    return point.split.control if name == "control" else point.gains.get(name)


def _way_gains(splits: Sequence[GapSplit]) -> Table:
    return Table(
        "gap-split-bd",
        "BD gain of the trainings for all points",
        ("task", "codec", "trained on", "tuned as", "BD-metric without", "BD gain", "recovered, %"),
        tuple(
            (
                *(each.task, each.codec, "unseen" if each.unseen else "yes", each.way),
                *(_figure(each.loss, 2), _figure(each.gain, 2)),
                _figure(each.recovered, 0) or "no clear gap",
            )
            for split in splits
            for each in split.codecs
        ),
        "Over the codec's own rates, on the reported images, over the training seeds.",
    )


def _arms(splits: Sequence[GapSplit]) -> Table:
    return Table(
        "gap-split-arms",
        "Trainings for all points against the first of them",
        ("task", "codec", "level", "tuned as", "gain minus that of the first"),
        tuple(
            (point.task, point.codec, _level(point), name, _figure(figure, 2))
            for split in splits
            for point in split.points
            for name, figure in point.apart.items()
        ),
        "Paired by image and training seed.",
    )


def _split_row(point: SplitPoint) -> tuple[Value, ...]:
    found = point.split
    return (
        *(point.task, point.codec, _level(point), _finite(point.bpp), found.tuned),
        *(_figure(each) for each in (found.uncompressed, found.compressed, found.adapted)),
        *(_figure(each) for each in (found.performance, found.information)),
        _figure(found.generalisation),
        _figure(found.recovered, 0) or "no clear gap",
    )


def _beside_row(point: SplitPoint) -> tuple[Value, ...]:
    found = point.split
    return (
        *(point.task, point.codec, _level(point), _figure(found.generalisation), point.one),
        _figure(found.one[1]) if found.one else None,
        *(_figure(each) for each in (found.clean, found.control, found.control_clean)),
    )


def _level(point: SplitPoint) -> str:
    return f"{point.level} (unseen)" if point.unseen else point.level


def _said(splits: Sequence[GapSplit]) -> Iterator[str]:
    for each in splits:
        for task, (chosen, reported) in each.images.items():
            yield f"{task}: {chosen} images chose, {reported} are reported."
        if each.seeds >= LEAST_SEEDS:
            yield f"Intervals draw {each.seeds} training seeds and then images."
        elif each.seeds > 1:
            yield (
                f"Intervals draw images alone: {each.seeds} training seeds say too little about"
                " their spread; each is in table gap-split-figures."
            )
        else:
            yield "Intervals draw images alone; there is one training of each kind."


def split_figures(splits: Sequence[GapSplit]) -> Table:
    """Return every figure of gap splits: a row each, with the value of each seed."""
    return Table(
        "gap-split-figures",
        "Gap split, figure by figure",
        (
            *("VLM", "task", "codec", "level", "seen", "bpp", "figure", "adaptor", "value"),
            *("95 % low", "95 % high", "by training seed"),
        ),
        tuple(
            (
                *(each.vlm, point.task, point.codec, point.level),
                *("no" if point.unseen else "yes", _finite(point.bpp), name, adaptor),
                *(figure.value, figure.low, figure.high),
                "; ".join(f"{value:.4f}" for value in figure.seeds),
            )
            for each in splits
            for point in each.points
            for name, adaptor, figure in _figures(point)
        ),
        "Differences are in points of the score. Several values by training seed are of the same"
        " images.",
        3,
    )


def _figures(point: SplitPoint) -> Iterator[tuple[str, str, Estimate]]:
    found, one = point.split, point.split.one
    yield "uncompressed", "", found.uncompressed
    yield "compressed", "", found.compressed
    yield "adapted, reachable", found.tuned, found.adapted
    yield "performance gap", "", found.performance
    yield "information gap (at most)", found.tuned, found.information
    yield "generalisation gap (at least)", found.tuned, found.generalisation
    optional = (
        ("recovered, %", found.tuned, found.recovered),
        ("adapted, one adaptor", point.one, one[0] if one else None),
        ("gain of one adaptor", point.one, one[1] if one else None),
        ("change on uncompressed images", found.tuned, found.clean),
        ("gain of the control", "control", found.control),
        ("gain of the control on uncompressed images", "control", found.control_clean),
    )
    for name, adaptor, figure in optional:
        if figure is not None:
            yield name, adaptor, figure


def _figure(given: Estimate | None, digits: int = 1) -> str | None:
    if given is None:
        return None
    return f"{given.value:.{digits}f} [{given.low:.{digits}f}, {given.high:.{digits}f}]"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
