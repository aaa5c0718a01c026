"""The tables of a report."""

from __future__ import annotations

from collections.abc import Iterator

from lossylens.run.picture_distances import MOST_PSNR

from lossylens_report.adaptor_tables import (
    clean_table,
    gain_table,
    split_figures,
    split_tables,
    topic_table,
)
from lossylens_report.advice import KEPT_SHARES, advise_keeping, keeping_table
from lossylens_report.analysis import (
    Analysis,
    CodecCurve,
    GroupAnalysis,
    Outcome,
    scaling,
    scaling_trend,
)
from lossylens_report.findings import progress
from lossylens_report.metrics.operating import OperatingPoint
from lossylens_report.reproduction import Compared, compare_printed
from lossylens_report.run_results import SourceResults
from lossylens_report.table import Table, Value, file_name, finite, interval_cells, table_of


def all_tables(analysis: Analysis) -> list[Table]:
    """Return the tables of a report; those that would have no rows are left out."""
    splits = [each.split for each in analysis.comparison.sources if each.split]
    made = [
        *advice_tables(analysis),
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


def advice_tables(analysis: Analysis) -> list[Table]:
    """Return what to upload, a table for each share; without uncompressed scores, none."""
    groups = analysis.comparison.groups
    if not any(cell.uncompressed for group in groups for cell in group.cells):
        return []
    return [keeping_table(advise_keeping(groups, share), share) for share in KEPT_SHARES]


def _unfinished(analysis: Analysis) -> Table:
    return table_of(
        "unfinished",
        "Cells that are not finished",
        (
            {
                "source": source.name,
                "task": cell.task,
                "model": cell.model,
                "codec": cell.codec,
                "level": cell.level,
                "answered": cell.answered,
                "questions": cell.questions,
                "score": "of an earlier start" if cell.scored else "none yet",
            }
            for source in analysis.comparison.sources
            for cell in source.unfinished
        ),
        " ".join(progress(analysis.comparison.sources)),
    )


def _not_applicable(analysis: Analysis) -> Table:
    return table_of(
        "not-applicable",
        "Cells that do not exist",
        (
            {
                "source": source.name,
                "task": cell.task,
                "model": cell.model,
                "codec": cell.codec,
                "level": cell.level,
                "why": cell.reason,
            }
            for source in analysis.comparison.sources
            for cell in source.not_applicable
        ),
        "An adaptor or model that cannot do what a cell asks for has no score there.",
    )


def _scores(analysis: Analysis) -> Table:
    return table_of(
        "scores",
        "Scores and rates of all cells",
        (
            {
                "task": group.group.title,
                "source": group.group.origins[cell.model],
                "VLM": cell.vlm,
                "adaptor": cell.adaptor,
                "codec": cell.codec,
                "level": cell.level,
                "bpp": finite(cell.bpp),
                "metric": cell.metric,
                "score": cell.value,
                **interval_cells(cell.interval),
                "images": cell.images or None,
                "limited to": cell.limited,
                "samples": cell.samples or None,
                "failed": cell.failed,
                "missing": cell.missing,
                "no answer": cell.unextracted,
            }
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


def _curve_cells(group: GroupAnalysis, curve: CodecCurve) -> dict[str, Value]:
    """Return the columns that say which curve it is."""
    return {"task": group.group.title, "model": curve.model, "codec": curve.codec}


def _bd(analysis: Analysis) -> Table:
    return table_of(
        "bd-metric",
        "BD-metric of every codec, over its own range of rates",
        (
            {
                **_curve_cells(group, curve),
                "BD-metric, PCHIP": curve.bd,
                **interval_cells(curve.bd_interval),
                "BD-metric, Akima": curve.bd_akima,
                "kept, %": curve.kept,
                "points": len(curve.cells),
                "lowest bpp": curve.cells[0].bpp if curve.cells else None,
                "highest bpp": curve.cells[-1].bpp if curve.cells else None,
            }
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
    rows: list[dict[str, Value]] = []
    for model in analysis.models:
        for group in analysis.groups:
            found = {codec: group.curves.get((model, codec)) for codec in analysis.codecs}
            if any(found.values()):
                values = {
                    codec: None if curve is None else _number(curve.bd)
                    for codec, curve in found.items()
                }
                rows.append({"model": model, "task": group.group.title, **values})
    return table_of(
        "bd-metric-by-model",
        "BD-metric: a row for each model and task, a column for each codec",
        rows,
        OWN_RANGE,
    )


def _number(value: Outcome) -> float | None:
    """Return *value*, or None for the reason why there is none."""
    return None if isinstance(value, str) else value


def _ratings(analysis: Analysis) -> Table:
    return table_of(
        "rating-at-equal-rate",
        "Codecs at equal rate",
        (
            {
                "task": group.group.title,
                "model": model,
                "codec": codec,
                "rating": rating.value,
                "pairs won": rating.wins,
                "pairs": rating.pairs,
                "pool": rating.pool,
            }
            for group in analysis.groups
            for model, ratings in group.ratings.items()
            for codec, rating in sorted(ratings.items(), key=lambda pair: -pair[1].value)
        ),
        SHARED_RANGE + " Codecs of different pools overlap with no common one.",
    )


def _operating(analysis: Analysis) -> Table:
    return table_of(
        "operating-points",
        "Least rate that keeps a share of the uncompressed score",
        (
            {
                **_curve_cells(group, curve),
                "kept, %": round(100 * point.share),
                "bpp": point.bpp,
                "remark": _operating_remark(point),
            }
            for group, curve in curves_of(analysis)
            if not isinstance(curve.operating, str)
            for point in curve.operating
        ),
        "Interpolated between measured rates, never extrapolated.",
        3,
    )


def _operating_remark(point: OperatingPoint) -> str:
    if point.bpp is None:
        return f"best {100 * point.best:.1f} %"
    return "at most" if point.bound else "falls again" if point.unstable else ""


def _gaps(analysis: Analysis) -> Table:
    return table_of(
        "gaps",
        "Performance gap = information gap + generalisation gap",
        (
            {
                "task": group.group.title,
                "model": found.cell.model,
                "codec": found.cell.codec,
                "level": f"{found.cell.level} (unseen)" if found.cell.unseen else found.cell.level,
                "uncompressed": found.gap.uncompressed,
                "compressed": found.gap.compressed,
                "adapted": found.gap.adapted,
                "performance gap": found.gap.performance,
                "information gap": found.gap.information,
                "generalisation gap": found.gap.generalisation,
                **interval_cells(found.interval),
            }
            for group in analysis.groups
            for found in group.gaps
        ),
        "The interval is that of the generalisation gap, over images. An adapted model is one"
        " attempt: the information gap is at most, the generalisation gap at least what is here.",
    )


def _lowest_rate(analysis: Analysis) -> Table:
    """Return the gaps where they are widest; the two parts need an adapted model."""
    rows: list[dict[str, Value]] = []
    for group, curve in curves_of(analysis):
        if not curve.cells or curve.reference is None or curve.adapted:
            continue
        cell, original = curve.cells[0], curve.reference.value
        sign = 1 if group.group.higher_is_better else -1
        drop = sign * (original - cell.value)
        rows.append(
            {
                **_curve_cells(group, curve),
                "level": cell.level,
                "bpp": cell.bpp,
                "uncompressed": original,
                "compressed": cell.value,
                "performance gap": drop,
                "of uncompressed, %": 100 * drop / original if original else None,
            }
        )
    return table_of(
        "performance-gap-at-lowest-rate",
        "Performance gap at the lowest rate of every codec",
        rows,
        "Its parts, information and generalisation gap, take an adapted model: table gaps.",
    )


def _scaling(analysis: Analysis) -> Table:
    rows: list[dict[str, Value]] = []
    for group in analysis.groups:
        for codec in (None, *group.codecs):
            points = scaling(group, codec)
            if len(points) < 2:
                continue
            found = scaling_trend(points)
            # The reason stands where there is no trend.
            slope, rank = (
                (found, None) if isinstance(found, str) else (found.slope, found.rank_correlation)
            )
            rows.append(
                {
                    "task": group.group.title,
                    "codec": codec or "mean of codecs",
                    "models": len(points),
                    "slope per tenfold size": slope,
                    "rank correlation": rank,
                }
            )
    return table_of(
        "scaling",
        "Drop in percent of the uncompressed score against model size",
        rows,
        "Negative: larger models lose less. Mean over the codec's own range of rates.",
    )


def _robustness(analysis: Analysis) -> Table:
    ranking = analysis.robustness
    ranks = ranking.ranks if len(ranking.ranks) > 1 else {}
    return table_of(
        "robustness",
        "VLMs by mean rank of the share of the score they keep",
        ({"model": model, "mean rank": rank} for model, rank in ranks.items()),
        f"Over {ranking.judgements} pairs of codec and task that all have; agreement (Kendall's W)"
        f" {ranking.concordance:.2f}.",
    )


def _codec_ranks(analysis: Analysis) -> Table:
    return table_of(
        "codec-ranks",
        "Codecs by mean rank over the models, at equal rate",
        (
            {
                "task": group.group.title,
                "codec": codec,
                "mean rank": rank,
                "models": group.codec_ranking.judgements,
                "agreement (W)": finite(group.codec_ranking.concordance),
            }
            for group in analysis.groups
            for codec, rank in group.codec_ranking.ranks.items()
        ),
        SHARED_RANGE,
    )


def _correlations(analysis: Analysis) -> Table:
    found = analysis.correlations
    return table_of(
        "correlations",
        "Spearman's rank correlation of the share kept on each task, rate and fidelity",
        (
            {"": name, **dict(zip(found.names, map(finite, row), strict=True))}
            for name, row in zip(found.names, found.values, strict=True)
        ),
        "Over model, codec and rate point (numbered by rate).",
    )


def _fidelity(analysis: Analysis) -> Table:
    measured = [
        (group.group, cell)
        for group in analysis.groups
        for cell in group.group.cells
        if cell.fidelity
    ]
    titles = list(dict.fromkeys(title for _, cell in measured for title in cell.fidelity))
    # The same for every model of a source.
    distinct = {
        (group.title, group.origins[cell.model], cell.codec, cell.level): (group, cell)
        for group, cell in measured
    }
    return table_of(
        "fidelity",
        "Fidelity of the decoded images",
        (
            {
                "task": group.title,
                "source": group.origins[cell.model],
                "codec": cell.codec,
                "level": cell.level,
                "bpp": finite(cell.bpp),
                **{title: cell.fidelity.get(title) for title in titles},
            }
            for group, cell in distinct.values()
        ),
        "Means over the distinct images that could be measured, an identical one counting as a"
        f" PSNR of {MOST_PSNR:.0f} dB; FID of all of them together, which few images bias upwards.",
        4,
    )


def agreement_table(analysis: Analysis, source: SourceResults) -> Table:
    """Return how many cells of each printed table the source's own scores reproduce."""
    return table_of(
        f"{file_name(source.name)}-agreement",
        f"Tables as printed ({source.name}) against the scores published with them",
        (
            {
                "table": found.table,
                "measure": found.measure,
                "cells": len(found.cells),
                "within tolerance": found.count("agrees"),
                "differ": found.count("differs"),
                "illegible": found.count("illegible"),
                "no figure": found.count("no figure"),
                "largest difference within": found.largest,
            }
            for found in compare_printed(analysis, source)
        ),
        "Tolerance: 1.5 % of a BD-metric, of rates and scores what rounding and digitising admit."
        " Gains of adaptors cannot be recomputed: the scores behind them are not published.",
    )


def printed_table(analysis: Analysis, source: SourceResults) -> Table:
    """Return every printed figure beside the recomputed one."""
    return table_of(
        f"{file_name(source.name)}-printed",
        f"Figures as printed ({source.name}) and as recomputed, cell by cell",
        map(_printed_cells, _printed(analysis, source)),
        digits=3,
    )


def disagreement_table(analysis: Analysis, source: SourceResults) -> Table:
    """Return the printed figures that are not reproduced, with the reason."""
    return table_of(
        f"{file_name(source.name)}-not-reproduced",
        f"Figures as printed ({source.name}) that are not reproduced",
        (_printed_cells(found) for found in _printed(analysis, source) if found.status != "agrees"),
        digits=3,
    )


def _printed(analysis: Analysis, source: SourceResults) -> Iterator[Compared]:
    """Yield the printed figures but gains of adaptors, which have a table of their own."""
    for agreement in compare_printed(analysis, source):
        if agreement.measure != "bd-gain":
            yield from agreement.cells


def _printed_cells(found: Compared) -> dict[str, Value]:
    printed = found.printed
    return {
        "table": printed.table,
        "measure": printed.measure,
        "model": printed.model,
        "task": printed.task,
        "codec": printed.codec,
        "level": printed.level,
        "printed": printed.value,
        "recomputed": _number(found.value),
        "difference": found.difference,
        "compares": found.status,
        "remark": found.reason,
    }


def _gains(analysis: Analysis, source: SourceResults) -> Table:
    without = {
        (curve.cells[0].task, curve.model, curve.codec): _number(curve.bd)
        for _, curve in curves_of(analysis)
        if curve.cells
    }
    return table_of(
        f"{file_name(source.name)}-gains",
        f"Gains of adaptors as printed ({source.name}); their scores are not published",
        (
            {
                "table": gain.table,
                "VLM": gain.model,
                "task": gain.task,
                "codec": gain.codec,
                "BD-metric without adaptor": without.get((gain.task, gain.model, gain.codec)),
                "gain": gain.value,
            }
            for gain in source.reported
            if gain.measure == "bd-gain"
        ),
    )
