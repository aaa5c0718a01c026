"""For tests of tasks: cases recorded from the reference evaluator.

A case is three files in one folder: ``task-NAME.tsv.gz`` (data),
``task-NAME.predictions.json`` (a list of ``index``, ``prediction`` and ``group``)
and ``task-NAME.expected.json`` (what the evaluator made of them).  A test module
derives a class from :class:`GoldenTests`, whose name starts with ``Test``.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from lossylens.errors import DataError
from lossylens.files.predictions import read_predictions
from lossylens.task import Sample
from lossylens.vlm import default_prompt, interleaved

from lossylens_toolkit.cache_folder import CACHE_VARIABLE
from lossylens_toolkit.tsv_task.tsv_base import TsvTask

#: What stands for a picture where none is looked at.
PICTURE = "iVBORw0KGgo" * 10


@dataclass(frozen=True)
class GoldenTaskCase:
    """A recorded case.

    Attributes:
        data: the TSV file, unpacked.
        predictions_file: the file of predictions.
        predictions: its content, by index.
        groups: per index, which rule its prediction is about.
        expected: what the evaluator gave.
    """

    data: Path
    predictions_file: Path
    predictions: dict[str, str | None]
    groups: dict[str, str]
    expected: dict[str, Any]


def golden_case(folder: Path, name: str, into: Path) -> GoldenTaskCase:
    """Return the case *name* in *folder*, its data unpacked to the folder *into*."""
    data = into / f"{name}.tsv"
    data.write_bytes(gzip.decompress((folder / f"task-{name}.tsv.gz").read_bytes()))
    predictions = folder / f"task-{name}.predictions.json"
    entries = json.loads(predictions.read_text())
    return GoldenTaskCase(
        data=data,
        predictions_file=predictions,
        predictions=read_predictions(predictions),
        groups={str(entry["index"]): entry["group"] for entry in entries},
        expected=json.loads((folder / f"task-{name}.expected.json").read_text()),
    )


def write_tsv(path: Path, *rows: Mapping[str, object], columns: Sequence[str] = ()) -> Path:
    """Write a small data file to *path* and return it.

    Args:
        path: of the file.
        rows: column to cell; without ``index`` a row's index is its position,
            without ``image`` it has a picture of its own, which cannot be decoded.
        columns: of the file; by default those of the first row.
    """
    full = [{"index": number, "image": PICTURE, **row} for number, row in enumerate(rows)]
    columns = columns or list(full[0])
    lines = [columns, *([str(row.get(column, "")) for column in columns] for row in full)]
    path.write_text("".join("\t".join(line) + "\n" for line in lines), encoding="utf-8")
    return path


def differences(
    actual: Any, expected: Any, relative: float = 1e-12, absolute: float = 1e-9, path: str = ""
) -> list[str]:
    """Return where *actual* differs from *expected*, in names, structure or value."""
    return list(_differences(actual, expected, relative, absolute, path))


def _differences(
    actual: Any, expected: Any, relative: float, absolute: float, path: str
) -> Iterator[str]:
    if isinstance(expected, list | tuple):
        expected = dict(enumerate(expected))
        actual = dict(enumerate(actual)) if isinstance(actual, list | tuple) else actual
    if isinstance(expected, Mapping):
        names = actual.keys() if isinstance(actual, Mapping) else set()
        yield from (f"{path}/{name}: unexpected" for name in names - expected.keys())
        yield from (f"{path}/{name}: absent" for name in expected.keys() - names)
        for name in expected.keys() & names:
            here = f"{path}/{name}"
            yield from _differences(actual[name], expected[name], relative, absolute, here)
    elif not _equal(actual, expected, relative, absolute):
        yield f"{path}: {actual!r}, expected {expected!r}"


def _equal(actual: Any, expected: Any, relative: float, absolute: float) -> bool:
    if isinstance(actual, str) or isinstance(expected, str):
        return bool(actual == expected)
    return math.isclose(actual, expected, rel_tol=relative, abs_tol=absolute)


class GoldenTests:
    """The tests that every task must pass on its recorded case.

    Attributes:
        task_class: of the task.
        name: of the case.
        folder: that holds the case.
        relative: tolerated relative difference of metrics.
        beside: names of metrics that the evaluator has not; tests of the task's own are theirs.
    """

    task_class: ClassVar[type[TsvTask]]
    name: ClassVar[str]
    folder: ClassVar[Path]
    relative: ClassVar[float] = 1e-12
    beside: ClassVar[frozenset[str]] = frozenset()

    def wrong_metrics(self, metrics: Mapping[str, Any], case: GoldenTaskCase) -> list[str]:
        """Return where metrics differ from the evaluator's."""
        compared = {name: value for name, value in metrics.items() if name not in self.beside}
        return differences(compared, case.expected["metrics"], self.relative)

    @pytest.fixture(autouse=True)
    def _cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))

    @pytest.fixture
    def case(self, tmp_path: Path) -> GoldenTaskCase:
        """The case, unpacked."""
        return golden_case(self.folder, self.name, tmp_path)

    @pytest.fixture
    def task(self, case: GoldenTaskCase) -> TsvTask:
        """The task on the data of the case."""
        return self.task_class(self.task_class.spec.options(data=str(case.data)))

    @pytest.fixture
    def samples(self, task: TsvTask) -> dict[str, Sample]:
        """All samples by id."""
        return {sample.id: sample for sample in task.samples()}

    def test_metrics_equal_the_reference_evaluators(
        self, task: TsvTask, case: GoldenTaskCase
    ) -> None:
        """Every metric, under its name and on its scale."""
        score = task.score(case.predictions)
        assert self.wrong_metrics(score.metrics, case) == []
        assert score.value == task.primary_value(score.metrics)
        assert (score.samples, score.missing, score.failed) == (case.expected["n_rows"], 0, 0)
        assert len(score.verdicts) == len(score.extracted) == score.samples

    def test_verdicts_equal_the_reference_evaluators(
        self, task: TsvTask, case: GoldenTaskCase
    ) -> None:
        """Every verdict and every extracted answer, as far as they are recorded."""
        score = task.score(case.predictions)
        rows = case.expected["rows"]
        hits = {i: row[key] for i, row in rows.items() for key in ("hit", "credit") if key in row}
        read = ("extracted", "normalised_prediction")
        found = {i: row[key] for i, row in rows.items() for key in read if key in row}
        # Recorded as false where no answer could be read.
        found |= {i: text or "" for i, text in case.expected.get("extracted", {}).items()}
        wrong = differences({index: score.verdicts[index] for index in hits}, hits)
        wrong += differences({index: score.extracted[index] for index in found}, found)
        assert [(each, case.groups[each.split(":")[0][1:]]) for each in wrong] == []

    def test_prompts_equal_the_reference_evaluators(
        self, samples: dict[str, Sample], case: GoldenTaskCase
    ) -> None:
        """The default wording of the recorded questions, and the order of their images."""
        for index, prompts in case.expected["prompts"].items():
            question = samples[index].question
            assert question.task == self.task_class.spec.name
            parts = interleaved(default_prompt(question), len(samples[index].images))
            shown = [part + 1 for part in parts if isinstance(part, int)]
            assert shown == prompts.get("image_order_generic", [1] * len(shown))
            text = "".join("<image>" if isinstance(part, int) else part for part in parts)
            assert text == prompts["generic"]

    def test_pictures_can_be_read(self, samples: dict[str, Sample]) -> None:
        """Those of all rows; one key means one picture."""
        pictures: dict[str, bytes] = {}
        for sample in samples.values():
            for image in sample.images:
                picture = image.read()
                assert picture == pictures.setdefault(image.key, picture)

    def test_failed_predictions_are_counted_and_not_right(
        self, task: TsvTask, case: GoldenTaskCase
    ) -> None:
        """All of them failed: the worst score, no error."""
        score = task.score(dict.fromkeys(case.predictions))
        assert score.failed == score.samples
        assert score.unextracted == 0
        assert score.value < 0.1 * task.score(case.predictions).value

    def test_predictions_for_unknown_rows_are_refused(
        self, task: TsvTask, case: GoldenTaskCase
    ) -> None:
        """The error names them."""
        with pytest.raises(DataError, match="index no-such-row"):
            task.score({**case.predictions, "no-such-row": "yes"})

    def test_the_command_prints_the_same_metrics(
        self, case: GoldenTaskCase, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """``lossylens score --json`` prints one object, with the primary metric and counts."""
        from lossylens.cli import main

        name = self.task_class.spec.name
        words = ["score", name, "--data", str(case.data), "--json"]
        code = main([*words, "--predictions", str(case.predictions_file)])
        report = json.loads(capsys.readouterr().out)
        assert code == 0
        assert self.wrong_metrics(report["metrics"], case) == []
        assert report["primary"]["name"] == self.task_class.spec.primary.name
        counts = {name: report[name] for name in ("samples", "missing", "failed")}
        assert counts == {"samples": case.expected["n_rows"], "missing": 0, "failed": 0}
