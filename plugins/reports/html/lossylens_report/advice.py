"""What to upload: the cheapest codec and level that keeps a share of the accuracy or fits a budget.

Compared are all that a model was run behind, chains of steps among them, by the mean bytes of
an image; where those are not known, by its rate.  A share is that of the accuracy on
uncompressed images of the VLM as it is, and its interval comes of draws of images that are
the same for both.  Who picks the cheapest of many that seem to keep enough is a little too
hopeful, so it is said where the interval reaches below what was asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from lossylens.cells import CellResult

from lossylens_report.comparing import Group
from lossylens_report.metrics.bootstrap import interval
from lossylens_report.table import Table, Value, finite, table_of

#: Shares of the uncompressed accuracy that a report advises on; the first is the default.
KEPT_SHARES = (0.99, 0.95, 0.90)

#: In place of a task, of what holds on every task of a model.
EVERY_TASK = "every task"

_NO_ROUNDING = 1e-9


@dataclass(frozen=True)
class Upload:
    """A codec at a level, as it serves a model on a task.

    Attributes:
        codec, level: labels.
        share: of the uncompressed accuracy that is kept; NaN without one.
        interval: of the share, 95 %; None where answers cannot be drawn anew.
        score: in the unit of the metric; NaN of several tasks together.
        bpp: mean rate; NaN where it is not known.
        size, largest: bytes of an image, mean and most; None where they are not known.
        seconds: to encode an image; None where that was not timed.
        warnings: what a reader must know of the cell.
    """

    codec: str
    level: str
    share: float
    interval: tuple[float, float] | None
    score: float
    bpp: float
    size: float | None
    largest: int | None
    seconds: float | None
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Codec and level."""
        return f"{self.codec} {self.level}"

    def keeps(self, share: float) -> bool:
        """Whether as much as *share* is kept, by the score itself."""
        return self.share >= share - _NO_ROUNDING

    def is_sure(self, share: float) -> bool:
        """Whether the whole interval says so."""
        return self.interval is not None and self.interval[0] >= share - _NO_ROUNDING


@dataclass(frozen=True)
class Advice:
    """What to upload for one model and task.

    Attributes:
        model, task: labels; :data:`EVERY_TASK` where one choice serves all.
        choice: the cheapest that keeps the share, or the best within the budget; None
            where there is none.
        sure: the cheapest whose interval says so as well.
        equal: within a budget, the best of other codecs that the interval of the difference
            does not tell apart from the choice.
        remark: why there is no choice, or what is to be known about it.
    """

    model: str
    task: str
    choice: Upload | None
    sure: Upload | None = None
    equal: tuple[str, ...] = ()
    remark: str = ""


def advise_keeping(groups: Sequence[Group], share: float) -> list[Advice]:
    """Return the cheapest that keeps *share*, for every model and task.

    A model with several tasks has a last entry for what keeps it on each of them.
    """
    found = []
    for model, of_model in _by_model(groups).items():
        uploads = {group.title: _uploads(group, model) for group in of_model}
        found += [
            _keeping(model, group.title, uploads[group.title], share, _obstacle(group, model))
            for group in of_model
        ]
        if len(of_model) > 1:
            missing = [each.title for each in of_model if _obstacle(each, model)]
            obstacle = f"there is no share on {', '.join(missing)}" if missing else ""
            found.append(_keeping(model, EVERY_TASK, _on_all(uploads), share, obstacle))
    return found


def advise_budget(groups: Sequence[Group], budget: float) -> list[Advice]:
    """Return the best within *budget*, the mean bytes of an image, for every model and task."""
    return [
        _within(group, model, budget)
        for model, of_model in _by_model(groups).items()
        for group in of_model
    ]


def _by_model(groups: Sequence[Group]) -> dict[str, list[Group]]:
    found: dict[str, list[Group]] = {}
    for group in groups:
        for model in dict.fromkeys(cell.model for cell in group.cells):
            found.setdefault(model, []).append(group)
    return found


def _reference(group: Group, model: str) -> CellResult | None:
    """Return the uncompressed cell of the VLM as it is."""
    vlms = {cell.vlm for cell in group.cells if cell.model == model}
    plain = (cell for cell in group.cells if cell.uncompressed and not cell.adaptor)
    return next((cell for cell in plain if cell.vlm in vlms and not cell.stale), None)


def _obstacle(group: Group, model: str) -> str:
    """Return why no share can be given, or ``""``."""
    if not group.higher_is_better:
        return f"of {group.metric} less is better, so that no share of it is kept"
    reference = _reference(group, model)
    if reference is None:
        return "there is no score on uncompressed images (run.uncompressed: true)"
    if not reference.value > 0:
        return f"the score on uncompressed images is {reference.value:g}"
    return ""


def _uploads(group: Group, model: str) -> list[Upload]:
    """Return all that a model was run behind, the cheapest first.

    Scores of an earlier start are left out, which are of other samples.
    """
    reference = _reference(group, model)
    found = []
    for cell in group.cells:
        if cell.model != model or cell.uncompressed or cell.stale:
            continue
        cost = group.costs.get(cell.key)
        if cost is None and not math.isfinite(cell.bpp):
            continue
        share, bounds = math.nan, None
        if group.higher_is_better and reference is not None and reference.value > 0:
            share, bounds = cell.value / reference.value, _bounds(group, cell, reference)
        found.append(
            Upload(
                cell.codec,
                cell.level,
                share,
                bounds,
                cell.value,
                cell.bpp,
                cost.size if cost else None,
                cost.largest if cost else None,
                cost.seconds if cost else None,
                tuple(_warnings(cell)),
            )
        )
    return _by_cost(found)


def _by_cost(uploads: Sequence[Upload]) -> list[Upload]:
    """Order by bytes, or by rate where not all bytes are known."""
    if all(each.size is not None for each in uploads):
        return sorted(uploads, key=lambda each: (each.size or 0.0, -each.score))
    return sorted(uploads, key=lambda each: each.bpp)


def _bounds(group: Group, cell: CellResult, reference: CellResult) -> tuple[float, float] | None:
    """Return the interval of the share over draws of images that are the same for both."""
    drawn, base = group.replicates.get(cell.key), group.replicates.get(reference.key)
    if drawn is None or base is None or len(drawn.scores) != len(base.scores):
        return None
    counts = np.isfinite(drawn.scores) & (base.scores > 0)
    if not counts.any():
        return None
    return interval(drawn.scores[counts] / base.scores[counts])


def _warnings(cell: CellResult) -> Iterator[str]:
    if cell.limited is not None:
        yield f"on {cell.limited} images alone (run.limit)"
    if cell.failed:
        yield f"{cell.failed} of {cell.samples} answers failed and count as wrong"
    if cell.unseen:
        yield "the adaptor's training had not this codec and level"


def _on_all(uploads: Mapping[str, Sequence[Upload]]) -> list[Upload]:
    """Return what was run on every task, each with the task on which it keeps least."""
    tables = [{each.name: each for each in of_task} for of_task in uploads.values()]
    found = []
    for name in tables[0]:
        each = [table[name] for table in tables if name in table]
        if len(each) < len(tables):
            continue
        worst = min(each, key=lambda one: one.share)
        bounds = [one.interval for one in each if one.interval is not None]
        lowest = min(bounds) if len(bounds) == len(each) else None
        sizes = [one.size for one in each if one.size is not None]
        timed = [one.seconds for one in each if one.seconds is not None]
        found.append(
            Upload(
                worst.codec,
                worst.level,
                worst.share,
                lowest,
                math.nan,
                fmean(one.bpp for one in each),
                fmean(sizes) if len(sizes) == len(each) else None,
                max(one.largest or 0 for one in each) if len(sizes) == len(each) else None,
                fmean(timed) if len(timed) == len(each) else None,
                tuple(dict.fromkeys(text for one in each for text in one.warnings)),
            )
        )
    return _by_cost(found)


def _keeping(
    model: str, task: str, uploads: Sequence[Upload], share: float, obstacle: str
) -> Advice:
    if obstacle:
        return Advice(model, task, None, remark=obstacle)
    if not uploads:
        return Advice(model, task, None, remark="nothing was run with a known rate")
    choice = next((each for each in uploads if each.keeps(share)), None)
    if choice is None:
        most = max(uploads, key=lambda each: each.share)
        remark = f"nothing keeps {_percent(share)}: the most is {_percent(most.share)}, {most.name}"
        return Advice(model, task, None, remark=remark)
    sure = next((each for each in uploads if each.is_sure(share)), None)
    dearer = uploads[uploads.index(choice) + 1 :]
    falls = [each for each in dearer if each.codec == choice.codec and not each.keeps(share)]
    return Advice(model, task, choice, sure, remark="; ".join(_remarks(choice, sure, share, falls)))


def _remarks(
    choice: Upload, sure: Upload | None, share: float, falls: Sequence[Upload]
) -> Iterator[str]:
    if choice.interval is None:
        yield "its answers cannot be drawn anew, so that it has no interval"
    elif sure is None:
        yield "more images are needed to be sure of any"
    elif sure is not choice:
        yield f"sure: {sure.name}{_of_size(sure)}"
    if falls:
        kept = _percent(falls[0].share)
        yield f"{falls[0].level} of {choice.codec} costs more and keeps {kept} alone"
    yield from choice.warnings


def _of_size(upload: Upload) -> str:
    return f", {upload.size:.0f} bytes" if upload.size is not None else f", {upload.bpp:.3f} bpp"


def _within(group: Group, model: str, budget: float) -> Advice:
    uploads = _uploads(group, model)
    if not uploads or any(each.size is None for each in uploads):
        return Advice(model, group.title, None, remark="the bytes of its images are not known")
    affordable = [each for each in uploads if each.size is not None and each.size <= budget]
    if not affordable:
        least = uploads[0]
        remark = f"nothing fits: the least is {least.name}{_of_size(least)}"
        return Advice(model, group.title, None, remark=remark)
    sign = 1 if group.higher_is_better else -1

    def worth(upload: Upload) -> float:
        return sign * upload.score

    # Of equal ones the cheapest, which comes first.
    choice = max(affordable, key=worth)
    equal = tuple(_not_told_apart(group, model, choice, affordable, worth))
    remarks = [f"not told apart from {', '.join(equal)}"] if equal else []
    if choice.largest is not None and choice.largest > budget:
        remarks.append(f"single images take up to {choice.largest} bytes")
    remarks += choice.warnings
    return Advice(model, group.title, choice, equal=equal, remark="; ".join(remarks))


def _not_told_apart(
    group: Group,
    model: str,
    choice: Upload,
    affordable: Sequence[Upload],
    worth: Callable[[Upload], float],
) -> Iterator[str]:
    """Yield the best of the other codecs whose difference from the choice may be chance."""
    cells = {(c.codec, c.level): c.key for c in group.cells if c.model == model}
    base = group.replicates.get(cells[choice.codec, choice.level])
    for codec in dict.fromkeys(each.codec for each in affordable if each.codec != choice.codec):
        best = max((each for each in affordable if each.codec == codec), key=worth)
        drawn = group.replicates.get(cells[best.codec, best.level])
        if base is None or drawn is None:
            yield f"{best.name} (no interval)"
            continue
        difference = base.scores - drawn.scores
        if not np.isfinite(difference).any():
            continue
        low, high = interval(difference)
        if low <= 0 <= high:
            yield best.name


def keeping_table(found: Sequence[Advice], share: float) -> Table:
    """Return advice on keeping *share* as a table, figures in full."""
    percent = f"{100 * share:g}"
    return table_of(
        f"advice-{percent}",
        f"The cheapest that keeps {percent} % of the uncompressed accuracy",
        (_row(each, {"sure": _sure(each)}) for each in found),
        "Sure is what the whole 95 % interval says, over draws of images that are the same with"
        " compression and without.",
    )


def budget_table(found: Sequence[Advice], budget: float) -> Table:
    """Return advice on *budget* as a table, figures in full."""
    title = f"The best within {budget:g} bytes per image"
    return table_of("budget", title, (_row(each, {}) for each in found))


def _sure(advice: Advice) -> str:
    if advice.choice is None:
        return ""
    return "yes" if advice.sure is advice.choice else "no"


def _row(advice: Advice, more: dict[str, Value]) -> dict[str, Value]:
    choice = advice.choice
    low, high = (choice.interval if choice else None) or (None, None)
    seconds = choice.seconds if choice else None
    return {
        "model": advice.model,
        "task": advice.task,
        "codec": choice.codec if choice else "–",
        "level": choice.level if choice else "–",
        "keeps, %": _hundred(choice.share if choice else None),
        "95 % low": _hundred(low),
        "95 % high": _hundred(high),
        **more,
        "bytes/image": round(choice.size) if choice and choice.size is not None else None,
        "bpp": finite(choice.bpp) if choice else None,
        "encode, ms": None if seconds is None else 1000 * seconds,
        "remark": advice.remark,
    }


def as_json_values(found: Sequence[Advice]) -> list[dict[str, object]]:
    """Return advice as JSON can hold it; shares are fractions."""
    return [
        {
            "model": advice.model,
            "task": advice.task,
            "choice": _upload_json(advice.choice),
            "sure": _upload_json(advice.sure),
            "not_told_apart": list(advice.equal),
            "remark": advice.remark,
        }
        for advice in found
    ]


def _upload_json(upload: Upload | None) -> dict[str, object] | None:
    if upload is None:
        return None
    return {
        "codec": upload.codec,
        "level": upload.level,
        "share": finite(upload.share),
        "interval": list(upload.interval) if upload.interval else None,
        "score": finite(upload.score),
        "bytes": upload.size,
        "largest_bytes": upload.largest,
        "bpp": finite(upload.bpp),
        "encode_seconds": upload.seconds,
        "warnings": list(upload.warnings),
    }


def advice_in_words(found: Sequence[Advice], share: float) -> Iterator[str]:
    """Yield one sentence for each model: what keeps *share* on every task, or on the only one."""
    last = {each.model: each for each in found}
    for model, advice in last.items():
        place = "on every task" if advice.task == EVERY_TASK else f"on {advice.task}"
        choice = advice.choice
        if choice is None:
            yield f"{model}: no advice {place}, since {advice.remark}."
            continue
        doubt = "" if choice.is_sure(share) else ", though the interval does not let one be sure"
        yield (
            f"To keep {_percent(share)} of its accuracy {place}, {model} needs {choice.name}"
            f"{_of_size(choice)} per image: it keeps {_percent(choice.share)}{_interval(choice)}"
            f"{doubt}."
        )


def _interval(upload: Upload) -> str:
    if upload.interval is None:
        return ""
    low, high = map(_percent, upload.interval)
    return f" (95 % interval {low} to {high})"


def _hundred(share: float | None) -> float | None:
    return None if share is None or math.isnan(share) else 100 * share


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"
