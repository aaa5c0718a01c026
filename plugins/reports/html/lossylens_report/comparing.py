"""Which scores of several sources may stand in one chart, and which may not, with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

from lossylens.cells import CellResult, TaskData
from lossylens.store.read_models import EncodingCost

from lossylens_report.replicates import Replicates
from lossylens_report.run_results import SourceResults


@dataclass(frozen=True)
class Source:
    """SourceResults with what is known besides, under a name that no other source has.

    Attributes:
        results: of a run, or published.
        replicates: of a run's cells, by cell key.
    """

    results: SourceResults
    replicates: Mapping[str, Replicates] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """Cells on one task that may be compared with each other.

    Attributes:
        title: the task, with its sources where there are several groups of it.
        task: label of the task.
        metric: name of the primary metric.
        higher_is_better: its direction.
        cells: all of them; a model that several sources have carries its source's name.
        data: the task's data in words, by source.
        origins: the source of each model.
        published: models whose scores are published, not a run's.
        replicates: bootstrap replicates of a cell, by the cell's key.
        costs: bytes and time of a cell's encodings, by the cell's key.
    """

    title: str
    task: str
    metric: str
    higher_is_better: bool
    cells: tuple[CellResult, ...]
    data: Mapping[str, str]
    origins: Mapping[str, str]
    published: frozenset[str]
    replicates: Mapping[str, Replicates]
    costs: Mapping[str, EncodingCost]


@dataclass(frozen=True)
class Comparison:
    """All that a report shows.

    Attributes:
        sources: in the order given.
        groups: in order of first appearance.
        apart: why groups of one task are not one.
        unlike: VLMs and codecs of one name that sources do not have in common, with what
            sets them apart.
    """

    sources: tuple[SourceResults, ...]
    groups: tuple[Group, ...]
    apart: tuple[str, ...]
    unlike: tuple[str, ...]


def compare(sources: Sequence[Source]) -> Comparison:
    """Group the cells of *sources* by task and data.

    Scores on different data, with different questions or of different metrics
    are never put in one group.
    """
    named = _with_names(sources)
    shared = _shared_models(named)
    drafts: dict[str, list[_Draft]] = {}
    apart = []
    for source in named:
        results = source.results
        for task in dict.fromkeys(cell.task for cell in results.cells):
            part = _Part.of(source, task, shared)
            drafts_of_task = drafts.setdefault(task, [])
            fitting = [draft for draft in drafts_of_task if not draft.obstacle(part)]
            if fitting:
                fitting[0].parts.append(part)
                continue
            apart += [f"{task}: {draft.obstacle(part)}" for draft in drafts_of_task]
            drafts_of_task.append(_Draft([part]))
    groups = [
        draft.group(task, alone=len(of_task) == 1)
        for task, of_task in drafts.items()
        for draft in of_task
    ]
    shown = tuple(each.results for each in named)
    return Comparison(shown, tuple(groups), tuple(apart), tuple(_unlike(shown)))


def _unlike(sources: Sequence[SourceResults]) -> Iterator[str]:
    """Yield what sets parts of one name apart; of a codec's levels, the first that differs."""
    told = set()
    for one, other in combinations(sources, 2):
        for key in (each for each in one.parts if each in other.parts):
            kind, label, *_ = key
            found = list(_differences(one.parts[key], other.parts[key]))
            if found and (one.name, other.name, kind, label) not in told:
                told.add((one.name, other.name, kind, label))
                more = f" and {len(found) - _TOLD} more" if len(found) > _TOLD else ""
                yield (
                    f"{kind} {label} is not the same in {one.name} and {other.name}:"
                    f" {', '.join(found[:_TOLD])}{more}."
                )


#: Differences between two parts that are told, the others being counted.
_TOLD = 4


def _differences(one: Mapping[str, Any], other: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for name in dict.fromkeys((*one, *other)):
        first, second = one.get(name), other.get(name)
        if isinstance(first, Mapping) and isinstance(second, Mapping):
            yield from _differences(first, second, f"{path}{name}.")
        elif first != second:
            yield f"{path}{name} ({_brief(first)}; {_brief(second)})"


def _brief(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _with_names(sources: Sequence[Source]) -> list[Source]:
    """Number sources of the same name."""
    seen: Counter[str] = Counter()
    named = []
    for source in sources:
        name = source.results.name
        seen[name] += 1
        if seen[name] > 1:
            name = f"{name} #{seen[name]}"
        named.append(replace(source, results=replace(source.results, name=name)))
    return named


def _shared_models(sources: Iterable[Source]) -> set[str]:
    """Return the VLMs that several sources have."""
    counts = Counter(
        vlm for source in sources for vlm in {cell.vlm for cell in source.results.cells}
    )
    return {vlm for vlm, count in counts.items() if count > 1}


@dataclass
class _Part:
    """What one source has on one task."""

    source: str
    published: bool
    cells: list[CellResult]
    data: TaskData
    replicates: dict[str, Replicates]
    costs: dict[str, EncodingCost]

    @classmethod
    def of(cls, source: Source, task: str, shared: set[str]) -> _Part:
        name = source.results.name
        cells, replicates, costs = [], {}, {}
        for cell in source.results.cells:
            if cell.task != task:
                continue
            key = f"{name}/{cell.key}"
            if cell.key in source.replicates:
                replicates[key] = source.replicates[cell.key]
            if cell.key in source.results.costs:
                costs[key] = source.results.costs[cell.key]
            vlm = f"{cell.vlm} ({name})" if cell.vlm in shared else cell.vlm
            cells.append(replace(cell, vlm=vlm, key=key))
        data = source.results.data[task]
        return cls(name, source.results.published, cells, data, replicates, costs)


@dataclass
class _Draft:
    parts: list[_Part]

    def obstacle(self, part: _Part) -> str:
        """Return why *part* cannot join, or ``""``."""
        first = self.parts[0]
        metric, other = first.cells[0].metric, part.cells[0].metric
        if metric != other:
            return f"{first.source} gives {metric}, {part.source} gives {other}."
        if any(each.data.identities & part.data.identities for each in self.parts):
            return ""
        return (
            f"{first.source} and {part.source} have different data or questions"
            f" ({first.data.words}; {part.data.words}), so their scores are shown apart."
        )

    def group(self, task: str, *, alone: bool) -> Group:
        names = ", ".join(part.source for part in self.parts)
        cells = tuple(cell for part in self.parts for cell in part.cells)
        return Group(
            title=task if alone else f"{task} ({names})",
            task=task,
            metric=cells[0].metric,
            higher_is_better=cells[0].higher_is_better,
            cells=cells,
            data={part.source: part.data.words for part in self.parts},
            origins={cell.model: part.source for part in self.parts for cell in part.cells},
            published=frozenset(
                cell.model for part in self.parts if part.published for cell in part.cells
            ),
            replicates={
                key: value for part in self.parts for key, value in part.replicates.items()
            },
            costs={key: value for part in self.parts for key, value in part.costs.items()},
        )
