"""Tables of what adaptors win back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lossylens_report.analysis import Analysis
from lossylens_report.metrics.split import LEAST_SEEDS, Estimate
from lossylens_report.run_results import GapSplit, SourceResults, SplitPoint
from lossylens_report.table import Table, Value, finite, interval_cells, table_of

#: Digits after the point of shares in percent.
_PERCENT = 1


def gain_table(analysis: Analysis) -> Table:
    """Return the BD gain of each adapted model on each codec and task."""
    return table_of(
        "adaptor-gains",
        "BD gain of adaptors",
        (
            {
                "task": group.group.title,
                "VLM": gain.cells[0].vlm,
                "adaptor": gain.cells[0].adaptor,
                "codec": gain.cells[0].codec,
                "trained on": gain.seen,
                "levels": len(gain.cells),
                "BD-metric without": gain.loss,
                "BD gain": gain.gain,
                **interval_cells(gain.interval),
                "recovered, %": (
                    None if gain.recovered is None else round(gain.recovered, _PERCENT)
                ),
            }
            for group in analysis.groups
            for gain in group.gains
        ),
        "BD-metric with the adaptor minus without, over the codec's own rates; recovered: in"
        " percent of what compression costs without. Intervals draw images, the same for both.",
    )


def clean_table(analysis: Analysis) -> Table:
    """Return what adaptors change on images as they are."""
    return table_of(
        "adaptor-uncompressed",
        "What adaptors change on uncompressed images",
        (
            {
                "task": group.group.title,
                "VLM": change.cell.vlm,
                "adaptor": change.cell.adaptor,
                "without": change.plain.value,
                "with": change.cell.value,
                "change": change.cell.value - change.plain.value,
                **interval_cells(change.interval),
            }
            for group in analysis.groups
            for change in group.clean
        ),
    )


def topic_table(sources: Sequence[SourceResults]) -> Table:
    """Return what adaptors change by topic of the questions."""
    return table_of(
        "adaptor-topics",
        "Gains of adaptors by topic of the questions",
        (
            {
                "task": found.task,
                "VLM": found.vlm,
                "adaptor": found.adaptor,
                "codec": found.codec,
                "topic": found.topic,
                "questions": found.questions,
                "without": found.plain,
                "with": found.adapted,
                "gain": found.adapted - found.plain,
                "95 % low": found.low,
                "95 % high": found.high,
            }
            for source in sources
            for found in source.topics
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
    made = (_split(splits), _beside(splits), _ways(splits), _way_gains(splits), _arms(splits))
    return [table for table in made if table.rows]


def _point_cells(point: SplitPoint) -> dict[str, Value]:
    """Return the columns that say which point it is."""
    level = f"{point.level} (unseen)" if point.unseen else point.level
    return {"task": point.task, "codec": point.codec, "level": level}


def _points(splits: Sequence[GapSplit]) -> Iterator[SplitPoint]:
    for split in splits:
        yield from split.points


def _split(splits: Sequence[GapSplit]) -> Table:
    return table_of(
        "gap-split",
        "Gap split",
        (
            {
                **_point_cells(point),
                "bpp": finite(point.bpp),
                "tuned as": point.split.tuned,
                "uncompressed": _figure(point.split.uncompressed),
                "compressed": _figure(point.split.compressed),
                "adapted": _figure(point.split.adapted),
                "performance gap": _figure(point.split.performance),
                "information gap (at most)": _figure(point.split.information),
                "generalisation gap (at least)": _figure(point.split.generalisation),
                "recovered, %": _figure(point.split.recovered, 0) or "no clear gap",
            }
            for point in _points(splits)
        ),
        " ".join([SPLIT, *_said(splits)]),
        3,
    )


def _beside(splits: Sequence[GapSplit]) -> Table:
    return table_of(
        "gap-split-beside",
        "Beside the gap split",
        (
            {
                **_point_cells(point),
                "reachable gain": _figure(point.split.generalisation),
                "one adaptor": point.one,
                "its gain": _figure(point.split.one[1]) if point.split.one else None,
                "tuned, uncompressed": _figure(point.split.clean),
                "control": _figure(point.split.control),
                "control, uncompressed": _figure(point.split.control_clean),
            }
            for point in _points(splits)
        ),
        "Reachable: the best of all trainings at this point, which may serve it alone; one"
        " adaptor: the joint training that is best over all points; tuned, uncompressed:"
        " what the reachable one changes on images as they are; control: what tuning on"
        " uncompressed images alone gains. In points of the score.",
    )


def _ways(splits: Sequence[GapSplit]) -> Table:
    """Return the gain of every way of tuning, each a column."""
    names = list(
        dict.fromkeys(
            name
            for each in splits
            for name in (*(name for _, name in each.clean), *_measured_ways(each))
        )
    )
    rows: list[dict[str, Value]] = []
    for each in splits:
        for task in each.images:
            clean = {name: _figure(each.clean.get((task, name))) for name in names}
            rows.append({"task": task, "codec": "uncompressed", "level": "", **clean})
            rows += [
                {
                    **_point_cells(point),
                    **{name: _figure(_gain_of(point, name)) for name in names},
                }
                for point in each.points
                if point.task == task
            ]
    return table_of(
        "gap-split-ways",
        "Gain of every way of tuning",
        rows,
        "In points of the score, mean over the training seeds with its 95 % interval, on the"
        " reported images. A way that is named by a point was measured there alone.",
    )


def _measured_ways(split: GapSplit) -> Iterator[str]:
    for point in split.points:
        yield from point.gains


def _gain_of(point: SplitPoint, name: str) -> Estimate | None:
    return point.split.control if name == "control" else point.gains.get(name)


def _way_gains(splits: Sequence[GapSplit]) -> Table:
    return table_of(
        "gap-split-bd",
        "BD gain of the trainings for all points",
        (
            {
                "task": found.task,
                "codec": found.codec,
                "trained on": "unseen" if found.unseen else "yes",
                "tuned as": found.way,
                "BD-metric without": _figure(found.loss, 2),
                "BD gain": _figure(found.gain, 2),
                "recovered, %": _figure(found.recovered, 0) or "no clear gap",
            }
            for split in splits
            for found in split.codecs
        ),
        "Over the codec's own rates, on the reported images, over the training seeds.",
    )


def _arms(splits: Sequence[GapSplit]) -> Table:
    return table_of(
        "gap-split-arms",
        "Trainings for all points against the first of them",
        (
            {
                **_point_cells(point),
                "tuned as": name,
                "gain minus that of the first": _figure(figure, 2),
            }
            for point in _points(splits)
            for name, figure in point.apart.items()
        ),
        "Paired by image and training seed.",
    )


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
    return table_of(
        "gap-split-figures",
        "Gap split, figure by figure",
        (
            {
                "VLM": split.vlm,
                "task": point.task,
                "codec": point.codec,
                "level": point.level,
                "seen": "no" if point.unseen else "yes",
                "bpp": finite(point.bpp),
                "figure": name,
                "adaptor": adaptor,
                "value": figure.value,
                "95 % low": figure.low,
                "95 % high": figure.high,
                "by training seed": "; ".join(f"{value:.4f}" for value in figure.seeds),
            }
            for split in splits
            for point in split.points
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
