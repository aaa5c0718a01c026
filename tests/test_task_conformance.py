"""Every task that is installed here passes the conformance suite, on data made of scenes."""

from __future__ import annotations

import ast
import csv
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from lossylens.registry.plugins import load_registry
from lossylens.task import Sample
from lossylens.testing.task_conformance import TaskConformance, TaskSubject
from lossylens_task_scenes.export import BENCHMARKS, FILES, export

#: Tasks that need no file.
OPTIONS = {"scenes": {"images": 2, "size": 96}}

#: Of all others, the data are exported: by name, options beside them.
EXPORTED: dict[str, dict[str, Any]] = {name: {} for name in BENCHMARKS} | {
    "few-shot": {"groups": 4},
    "video-mme": {},
}
IMAGES = 2


def data_of(name: str, folder: Path) -> Path:
    made = FILES.get(name) or BENCHMARKS[name]
    path = folder / ("classes" if name == "few-shot" else f"{name}.tsv")
    export(name, path, max(IMAGES, made.least), seed=5, size=96)
    return path


def paths(data: Path) -> dict[str, str]:
    """Return the options that name *data*."""
    frames = {"pictures": str(data.with_suffix(""))} if data.stem == "video-mme" else {}
    return {"data": str(data), **frames}


def damaged(data: Path, folder: Path) -> Path:
    """Return a copy of *data* in which one picture, or film, is none."""
    copy = folder / data.name
    if data.is_dir():
        shutil.copytree(data, copy)
        min(copy.rglob("*.png")).write_bytes(b"no picture")
        return copy
    csv.field_size_limit(sys.maxsize)
    with data.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    if "image" not in rows[0]:
        shutil.copytree(data.with_suffix(""), copy.with_suffix(""))
        shutil.copyfile(data, copy)
        for frame in min(copy.with_suffix("").iterdir()).iterdir():
            frame.write_bytes(b"no picture")
        return copy
    # An image that other rows point at would take them with it.
    last = max(n for n, row in enumerate(rows) if len(row["image"]) > 100)
    rows[last]["image"] = "bm8gcGljdHVyZQ==" * 10
    with copy.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return copy


@pytest.fixture(scope="class", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOSSYLENS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


class TestTask(TaskConformance):
    tasks = tuple(found.spec.name for found in load_registry(strict=False).all("task"))

    @classmethod
    def make_subject(
        cls, name: str, given: Mapping[str, Any], request: pytest.FixtureRequest
    ) -> TaskSubject:
        if name in EXPORTED:
            folder = request.getfixturevalue("tmp_path_factory").mktemp("data")
            given = {**paths(data_of(name, folder)), **EXPORTED[name], **given}
        return super().make_subject(name, {**OPTIONS.get(name, {}), **given}, request)

    @pytest.fixture(scope="class")
    @classmethod
    def damaged_options(
        cls, subject: TaskSubject, tmp_path_factory: pytest.TempPathFactory
    ) -> Mapping[str, Any] | None:
        if subject.spec.name not in EXPORTED:
            return None
        path = damaged(Path(subject.given["data"]), tmp_path_factory.mktemp("damaged"))
        return {**subject.given, **paths(path)}

    @classmethod
    def right_answers(cls, samples: Sequence[Sample]) -> Mapping[str, str] | None:
        return {each.id: right_answer(each) for each in samples}


def right_answer(sample: Sample) -> str:
    answer = sample.fields["answer"]
    several = ast.literal_eval(answer) if answer.startswith("[") else [answer]
    # The numbers of a box are one answer.
    return several[0] if isinstance(several[0], str) else answer


def test_no_task_is_left_out() -> None:
    assert len(TestTask.tasks) >= 17
    assert set(TestTask.tasks) == {*OPTIONS, *EXPORTED}
