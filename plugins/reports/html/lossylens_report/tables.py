"""The tables of a report."""

from __future__ import annotations

import math
from collections.abc import Iterator

from lossylens.run.picture_distances import MOST_PSNR

from lossylens_report.adaptor_tables import (
    clean_table,
    gain_table,
    split_figures,
    split_tables,
    topic_table,
)
from lossylens_report.analysis import (
    Analysis,
    CodecCurve,
    GroupAnalysis,
    Outcome,
    scaling,
    scaling_trend,
)
from lossylens_report.findings import progress
from lossylens_report.reproduction import compare_printed
from lossylens_report.run_results import SourceResults
from lossylens_report.table import Table, Value, file_name


def all_tables(analysis: Analysis) -> list[Table]:
    """Return the tables of a report; those that would have no rows are left out."""
    splits = [each.split for each in analysis.comparison.sources if each.split]
    made = [
        _unfinished(analysis),
        _not_applicable(analysis),
        _scores(analysis),
        _bd(analysis),
        _bd_wide(analysis),
        _ratings(analysis),
        _operating(analysis),
        _gaps(analysis),
        _lowest_rate(analysis),
        _scaling(analysis),
        _robustness(analysis),
        _codec_ranks(analysis),
        _correlations(analysis),
        _fidelity(analysis),
        *(agreement_table(analysis, each) for each in analysis.comparison.sources),
        *(printed_table(analysis, each) for each in analysis.comparison.sources),
        *(_gains(analysis, each) for each in analysis.comparison.sources),
        gain_table(analysis),
        clean_table(analysis),
        topic_table(analysis.comparison.sources),
        *split_tables(splits),
        split_figures(splits),
    ]
    return [table for table in made if table.rows]


def _unfinished(analysis: Analysis) -> Table:
    return Table(
        "unfinished",
        "Cells that are not finished",
        ("source", "task", "model", "codec", "level", "answered", "questions", "score"),
        tuple(
            (
                *(source.name, each.task, each.model, each.codec, each.level),
                *(each.answered, each.questions),
                "of an earlier start" if each.scored else "none yet",
            )
            for source in analysis.comparison.sources
            for each in source.unfinished
        ),
        " ".join(progress(analysis)),
    )


def _not_applicable(analysis: Analysis) -> Table:
    return Table(
        "not-applicable",
        "Cells that do not exist",
        ("source", "task", "model", "codec", "level", "why"),
        tuple(
            (source.name, each.task, each.model, each.codec, each.level, each.reason)
            for source in analysis.comparison.sources
            for each in source.not_applicable
        ),
        "An adaptor or model that cannot do what a cell asks for has no score there.",
    )


def _scores(analysis: Analysis) -> Table:
    return Table(
        "scores",
        "Scores and rates of all cells",
        (
            *("task", "source", "VLM", "adaptor", "codec", "level", "bpp", "metric", "score"),
            *("95 % low", "95 % high", "images", "limited to", "samples", "failed", "missing"),
            "no answer",
        ),
        tuple(
            (
                *(group.group.title, group.group.origins[cell.model], cell.vlm, cell.adaptor),
                *(cell.codec, cell.level, _finite(cell.bpp), cell.metric, cell.value),
                *(cell.interval or (None, None)),
                *(cell.images or None, cell.limited, cell.samples or None),
                *(cell.failed, cell.missing, cell.unextracted),
            )
            for group in analysis.groups
            for cell in group.group.cells
        ),
        "Scores between 0 and 1 are in percent. Intervals resample images, or whatever else a task"
        " says belongs together.",
        3,
    )


def curves_of(analysis: Analysis) -> Iterator[tuple[GroupAnalysis, CodecCurve]]:
    """Yield every curve with its group."""
    for group in analysis.groups:
        for curve in group.curves.values():
            yield group, curve


def _bd(analysis: Analysis) -> Table:
    return Table(
        "bd-metric",
        "BD-metric of every codec, over its own range of rates",
        (
            *("task", "model", "codec", "BD-metric, PCHIP", "95 % low", "95 % high"),
            *("BD-metric, Akima", "kept, %", "points", "lowest bpp", "highest bpp"),
        ),
        tuple(
            (
                *(group.group.title, curve.model, curve.codec, curve.bd),
                *(curve.bd_interval or (None, None)),
                *(curve.bd_akima, curve.kept, len(curve.cells)),
                *((curve.cells[0].bpp, curve.cells[-1].bpp) if curve.cells else (None, None)),
            )
            for group, curve in curves_of(analysis)
        ),
        OWN_RANGE,
        3,
    )


#: What a reader must know of the paper's definition.
OWN_RANGE = (
    "Mean score over the codec's own rates (linear axis) minus the uncompressed score, as in the"
    " paper; codecs cover different rates, so these figures are not at equal rate."
)
SHARED_RANGE = (
    "Advantage in score over the mean codec at equal rate: every two codecs are compared over the"
    " rates that both cover, and the ratings fit all these differences best (least squares)."
)


def _bd_wide(analysis: Analysis) -> Table:
    codecs = analysis.codecs
    rows = []
    for model in analysis.models:
        for group in analysis.groups:
            found = [group.curves.get((model, codec)) for codec in codecs]
            if any(found):
                values = [_short(each.bd) if each else None for each in found]
                rows.append((model, group.group.title, *values))
    return Table(
        "bd-metric-by-model",
        "BD-metric: a row for each model and task, a column for each codec",
        ("model", "task", *codecs),
        tuple(rows),
        OWN_RANGE,
    )


def _short(value: Outcome) -> Value:
    return None if isinstance(value, str) else value


def _ratings(analysis: Analysis) -> Table:
    return Table(
        "rating-at-equal-rate",
        "Codecs at equal rate",
        ("task", "model", "codec", "rating", "pairs won", "pairs", "pool"),
        tuple(
            (group.group.title, model, codec, each.value, each.wins, each.pairs, each.pool)
            for group in analysis.groups
            for model, ratings in group.ratings.items()
            for codec, each in sorted(ratings.items(), key=lambda pair: -pair[1].value)
        ),
        SHARED_RANGE + " Codecs of different pools overlap with no common one.",
    )


def _operating(analysis: Analysis) -> Table:
    rows: list[tuple[Value, ...]] = []
    for group, curve in curves_of(analysis):
        if isinstance(curve.operating, str):
            continue
        for point in curve.operating:
            remark = "at most" if point.bound else "falls again" if point.unstable else ""
            if point.bpp is None:
                remark = f"best {100 * point.best:.1f} %"
            labels = (group.group.title, curve.model, curve.codec)
            rows.append((*labels, round(100 * point.share), point.bpp, remark))
    return Table(
        "operating-points",
        "Least rate that keeps a share of the uncompressed score",
        ("task", "model", "codec", "kept, %", "bpp", "remark"),
        tuple(rows),
        "Interpolated between measured rates, never extrapolated.",
        3,
    )


def _gaps(analysis: Analysis) -> Table:
    return Table(
        "gaps",
        "Performance gap = information gap + generalisation gap",
        (
            *("task", "model", "codec", "level", "uncompressed", "compressed", "adapted"),
            *("performance gap", "information gap", "generalisation gap"),
            *("95 % low", "95 % high"),
        ),
        tuple(
            (
                *(group.group.title, each.cell.model, each.cell.codec),
                f"{each.cell.level} (unseen)" if each.cell.unseen else each.cell.level,
                *(each.gap.uncompressed, each.gap.compressed, each.gap.adapted),
                *(each.gap.performance, each.gap.information, each.gap.generalisation),
                *(each.interval or (None, None)),
            )
            for group in analysis.groups
            for each in group.gaps
        ),
        "The interval is that of the generalisation gap, over images. An adapted model is one"
        " attempt: the information gap is at most, the generalisation gap at least what is here.",
    )


def _lowest_rate(analysis: Analysis) -> Table:
    """Return the gaps where they are widest; the two parts need an adapted model."""
    rows: list[tuple[Value, ...]] = []
    for group, curve in curves_of(analysis):
        if not curve.cells or curve.reference is None or curve.adapted:
            continue
        cell, original = curve.cells[0], curve.reference.value
        sign = 1 if group.group.higher_is_better else -1
        labels = (group.group.title, curve.model, curve.codec, cell.level, cell.bpp)
        drop = sign * (original - cell.value)
        rows.append(
            (*labels, original, cell.value, drop, 100 * drop / original if original else None)
        )
    return Table(
        "performance-gap-at-lowest-rate",
        "Performance gap at the lowest rate of every codec",
        (
            *("task", "model", "codec", "level", "bpp", "uncompressed", "compressed"),
            *("performance gap", "of uncompressed, %"),
        ),
        tuple(rows),
        "Its parts, information and generalisation gap, take an adapted model: table gaps.",
    )


def _scaling(analysis: Analysis) -> Table:
    rows: list[tuple[Value, ...]] = []
    for group in analysis.groups:
        for codec in (None, *group.codecs):
            points = scaling(group, codec)
            if len(points) < 2:
                continue
            found = scaling_trend(points)
            labels = (group.group.title, codec or "mean of codecs", len(points))
            if isinstance(found, str):
                rows.append((*labels, found, None))
            else:
                rows.append((*labels, found.slope, found.rank_correlation))
    return Table(
        "scaling",
        "Drop in percent of the uncompressed score against model size",
        ("task", "codec", "models", "slope per tenfold size", "rank correlation"),
        tuple(rows),
        "Negative: larger models lose less. Mean over the codec's own range of rates.",
    )


def _robustness(analysis: Analysis) -> Table:
    ranking = analysis.robustness
    rows = tuple(ranking.ranks.items()) if len(ranking.ranks) > 1 else ()
    return Table(
        "robustness",
        "VLMs by mean rank of the share of the score they keep",
        ("model", "mean rank"),
        rows,
        f"Over {ranking.judgements} pairs of codec and task that all have; agreement (Kendall's W)"
        f" {ranking.concordance:.2f}.",
    )


def _codec_ranks(analysis: Analysis) -> Table:
    return Table(
        "codec-ranks",
        "Codecs by mean rank over the models, at equal rate",
        ("task", "codec", "mean rank", "models", "agreement (W)"),
        tuple(
            (
                *(group.group.title, codec, value, group.codec_ranking.judgements),
                _finite(group.codec_ranking.concordance),
            )
            for group in analysis.groups
            for codec, value in group.codec_ranking.ranks.items()
        ),
        SHARED_RANGE,
    )


def _correlations(analysis: Analysis) -> Table:
    found = analysis.correlations
    return Table(
        "correlations",
        "Spearman's rank correlation of the share kept on each task, rate and fidelity",
        ("", *found.names),
        tuple(
            (name, *map(_finite, row)) for name, row in zip(found.names, found.values, strict=True)
        ),
        "Over model, codec and rate point (numbered by rate).",
    )


def _fidelity(analysis: Analysis) -> Table:
    measured = [
        (group, cell) for group in analysis.groups for cell in group.group.cells if cell.fidelity
    ]
    titles = list(dict.fromkeys(title for _, cell in measured for title in cell.fidelity))
    rows = {}
    for group, cell in measured:
        # The same for every model of a source.
        labels = (group.group.title, group.group.origins[cell.model], cell.codec, cell.level)
        rows[labels] = (_finite(cell.bpp), *(cell.fidelity.get(title) for title in titles))
    return Table(
        "fidelity",
        "Fidelity of the decoded images",
        ("task", "source", "codec", "level", "bpp", *titles),
        tuple((*labels, *values) for labels, values in rows.items()),
        "Means over the distinct images that could be measured, an identical one counting as a"
        f" PSNR of {MOST_PSNR:.0f} dB; FID of all of them together, which few images bias upwards.",
        4,
    )


def agreement_table(analysis: Analysis, source: SourceResults) -> Table:
    """Return how many cells of each printed table the source's own scores reproduce."""
    return Table(
        f"{file_name(source.name)}-agreement",
        f"Tables as printed ({source.name}) against the scores published with them",
        (
            *("table", "measure", "cells", "within tolerance", "differ", "illegible"),
            *("no figure", "largest difference within"),
        ),
        tuple(
            (
                *(each.table, each.measure, len(each.cells)),
                *(each.count("agrees"), each.count("differs"), each.count("illegible")),
                *(each.count("no figure"), each.largest),
            )
            for each in compare_printed(analysis, source)
        ),
        "Tolerance: 1.5 % of a BD-metric, of rates and scores what rounding and digitising admit."
        " Gains of adaptors cannot be recomputed: the scores behind them are not published.",
    )


def printed_table(analysis: Analysis, source: SourceResults) -> Table:
    """Return every printed figure beside the recomputed one."""
    return Table(
        f"{file_name(source.name)}-printed",
        f"Figures as printed ({source.name}) and as recomputed, cell by cell",
        _PRINTED,
        tuple(_printed_rows(analysis, source)),
        digits=3,
    )


def disagreement_table(analysis: Analysis, source: SourceResults) -> Table:
    """Return the printed figures that are not reproduced, with the reason."""
    status = _PRINTED.index("compares")
    rows = (row for row in _printed_rows(analysis, source) if row[status] != "agrees")
    return Table(
        f"{file_name(source.name)}-not-reproduced",
        f"Figures as printed ({source.name}) that are not reproduced",
        _PRINTED,
        tuple(rows),
        digits=3,
    )


_PRINTED = (
    *("table", "measure", "model", "task", "codec", "level", "printed", "recomputed"),
    *("difference", "compares", "remark"),
)


def _printed_rows(analysis: Analysis, source: SourceResults) -> Iterator[tuple[Value, ...]]:
    """Yield the printed figures but gains of adaptors, which have a table of their own."""
    for agreement in compare_printed(analysis, source):
        if agreement.measure == "bd-gain":
            continue
        for each in agreement.cells:
            printed = each.printed
            yield (
                *(printed.table, printed.measure, printed.model, printed.task, printed.codec),
                *(printed.level, printed.value, _short(each.value), each.difference),
                *(each.status, each.reason),
            )


def _gains(analysis: Analysis, source: SourceResults) -> Table:
    drops = {
        (curve.cells[0].task, curve.model, curve.codec): curve.bd
        for _, curve in curves_of(analysis)
        if curve.cells
    }
    return Table(
        f"{file_name(source.name)}-gains",
        f"Gains of adaptors as printed ({source.name}); their scores are not published",
        ("table", "VLM", "task", "codec", "BD-metric without adaptor", "gain"),
        tuple(
            (
                *(each.table, each.model, each.task, each.codec),
                _short(drops.get((each.task, each.model, each.codec), "")),
                each.value,
            )
            for each in source.reported
            if each.measure == "bd-gain"
        ),
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
