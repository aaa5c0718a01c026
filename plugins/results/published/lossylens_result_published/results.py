"""The published figures as :class:`~lossylens.cells.Results`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib import resources
from math import nan
from typing import Any

from lossylens.cells import UNCOMPRESSED, CellResult, Note, Reported, Results, TaskData
from lossylens.result import PublishedResults

#: Primary metric of each task, by the name that the task plugins give it.
METRICS = {
    "pope": "Overall/Overall",
    "gqa": "Overall",
    "ocrbench": "Final Score",
    "mme": "perception",
    "mmbench": "dev/Overall",
    "seedbench": "none/Overall",
    "coco-caption": "CIDEr",
}

#: Millions of parameters, as the models are named; Qwen-VL-Chat's as its paper gives it.
PARAMETERS = {
    "qwen-vl-chat": 9_600,
    "qwen2.5-vl-3b": 3_000,
    "qwen2.5-vl-7b": 7_000,
    "qwen2.5-vl-32b": 32_000,
    "janus-pro-1b": 1_000,
    "janus-pro-7b": 7_000,
    "internvl3-1b": 1_000,
    "internvl3-2b": 2_000,
    "internvl3-8b": 8_000,
}

_UNCOMPRESSED_BPP = 24.0

_TABLES = {
    "table-2": "Table 2",
    "table-14": "Table 14",
    "table-4": "Table 4",
    "summary-adaptor-gain": "summary, adaptor",
    "summary-unseen": "summary, unseen codecs and VLMs",
    "summary-ablation-none": "summary, ablation: no condition",
    "summary-ablation-level": "summary, ablation: level only",
    "summary-ablation-codec": "summary, ablation: codec only",
    "summary-ablation-full": "summary, ablation: both conditions",
    "summary-transtic-base": "summary, TransTIC",
    "summary-transtic-adaptor": "summary, TransTIC with adaptor",
}
_BD_TABLES = ("table-2", "table-14")

#: Largest relative difference between a printed BD-metric and the recomputed one: rates
#: are digitised to 0.0003 bpp, some inferred, and the tables have three digits.
_BD_TOLERANCE = 0.015
#: Printed with two decimals.
_DECIMALS = 0.005


class Published(PublishedResults):
    """The benchmark's published scores, rates and BD tables."""

    def __init__(self, options: Any = None) -> None:
        """Take no options."""

    def load(self) -> Results:
        """Return the results."""
        scores, rates, notes = read("scores"), read("rates"), read("notes")
        return Results(
            name="published",
            cells=(*_cells(scores["scores"], rates["rates"]), *_adapted(notes, rates["rates"])),
            data={
                task: TaskData(frozenset({f"reference {task}"}), "the reference evaluator's file")
                for task in METRICS
            },
            unscored=tuple(_unscored(scores["scores"], rates["rates"])),
            notes=tuple(Note(each["text"], frozenset(each["about"])) for each in notes["notes"]),
            reported=tuple(_reported(notes["doubtful"])),
            rate_sources=tuple(_rate_sources(rates)),
            manifest={"scores": scores["source"], "rates": rates["sources"]},
            published=True,
        )


def read(name: str) -> Any:
    """Return the content of a data file."""
    path = resources.files(__package__) / "data" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))


def _cells(scores: Mapping[str, Any], rates: Mapping[str, Any]) -> Iterator[CellResult]:
    for vlm, task, codec, (level, bpp, _, _), value in _points(scores, rates):
        if value is not None:
            yield _cell(vlm, "", codec, level, task, value, nan if bpp is None else bpp)


def _unscored(scores: Mapping[str, Any], rates: Mapping[str, Any]) -> Iterator[str]:
    for vlm, task, codec, (level, *_), value in _points(scores, rates):
        if value is None:
            yield f"{vlm}, {codec} {level}, {task}"


def _points(
    scores: Mapping[str, Any], rates: Mapping[str, Any]
) -> Iterator[tuple[str, str, str, list[Any], float | None]]:
    """Yield VLM, task, codec, rate point and score; the original image comes first."""
    for vlm, tasks in scores.items():
        for task, codecs in tasks.items():
            for codec, values in codecs.items():
                if codec == UNCOMPRESSED:
                    yield vlm, task, codec, ["raw", _UNCOMPRESSED_BPP, 0.0, ""], values
                    continue
                for point, value in zip(rates[task][codec], values, strict=True):
                    yield vlm, task, codec, point, value


def _adapted(notes: Mapping[str, Any], rates: Mapping[str, Any]) -> Iterator[CellResult]:
    for each in notes["adapted"]:
        codec, level, task = each["codec"], each["level"], each["task"]
        bpp = next(point[1] for point in rates[task][codec] if point[0] == level)
        yield _cell(each["vlm"], each["adaptor"], codec, level, task, each["value"], bpp)


def _cell(
    vlm: str, adaptor: str, codec: str, level: str, task: str, value: float, bpp: float
) -> CellResult:
    return CellResult(
        vlm=vlm,
        adaptor=adaptor,
        codec=codec,
        level=level,
        task=task,
        uncompressed=codec == UNCOMPRESSED,
        metric=METRICS[task],
        value=value,
        bpp=bpp,
        parameters=PARAMETERS.get(vlm),
    )


def _reported(doubtful: Mapping[str, Mapping[str, str]]) -> Iterator[Reported]:
    bd, printed = read("bd"), read("printed")
    for table in _BD_TABLES:
        yield from _reported_bd(_TABLES[table], bd.pop(table), doubtful)
    yield from _reported_gaps(printed["gaps"])
    yield from _reported_rates(printed["rates"])
    for table, vlms in bd.items():
        for vlm, task, codec, value in _bd_cells(vlms):
            yield Reported(_TABLES[table], "bd-gain", vlm, codec, task, value)


def _reported_bd(
    table: str, vlms: Mapping[str, Any], doubtful: Mapping[str, Mapping[str, str]]
) -> Iterator[Reported]:
    for vlm, task, codec, value in _bd_cells(vlms):
        doubt = doubtful.get(task, {}).get(vlm, "")
        near = _BD_TOLERANCE * abs(value or 0)
        yield Reported(table, "bd-metric", vlm, codec, task, value, doubt, tolerance=near)


def _bd_cells(vlms: Mapping[str, Any]) -> Iterator[tuple[str, str, str, float | None]]:
    for vlm, tasks in vlms.items():
        for task, codecs in tasks.items():
            for codec, value in codecs.items():
                yield vlm, task, codec, value


def _reported_gaps(gaps: Mapping[str, Any]) -> Iterator[Reported]:
    adapted = f"{gaps['vlm']} + {gaps['adaptor']}"
    for each in gaps["cells"]:
        yield Reported(
            gaps["table"],
            each["measure"],
            gaps["vlm"] if each["measure"] == "score" else adapted,
            gaps["codec"],
            each["task"],
            each["value"],
            gaps["doubt"],
            gaps["level"],
            # A gap is the difference of two such figures.
            _DECIMALS if each["measure"] == "score" else 2 * _DECIMALS,
        )


def _reported_rates(tables: Mapping[str, Any]) -> Iterator[Reported]:
    """Yield the rates that a table prints, where those used come from elsewhere."""
    rates = read("rates")["rates"]
    for table, of_task in tables.items():
        task, used = of_task["task"], rates[of_task["task"]]
        for codec, levels in of_task["codecs"].items():
            precision = {point[0]: point[2] for point in used[codec]}
            for level, value in levels.items():
                near = _DECIMALS + precision[level]
                yield Reported(table, "rate", "", codec, task, value, "", level, near)


def _rate_sources(rates: Mapping[str, Any]) -> Iterator[str]:
    """Yield how many rates come from each source."""
    points = [
        point for codecs in rates["rates"].values() for each in codecs.values() for point in each
    ]
    for key, words in rates["sources"].items():
        count = sum(point[3] == key for point in points)
        if count:
            yield f"{count} rates: {words}"
