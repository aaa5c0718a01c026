"""What scenes write is what the tasks read: right answers are right, and others are not."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from lossylens.registry.plugins import load_registry
from lossylens.task import Sample
from lossylens_task_scenes.export import export


def right_answer(sample: Sample) -> str:
    answer = sample.fields["answer"]
    return ast.literal_eval(answer)[0] if answer.startswith("[") else answer


@pytest.mark.parametrize("name", ["textvqa", "vqav2", "docvqa", "infovqa", "chartqa", "mmmu"])
def test_a_twin(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSYLENS_CACHE", str(tmp_path / "cache"))
    data = tmp_path / "data.tsv"
    rows = export(name, data, images=21, seed=5, size=96)
    registry = load_registry()
    task = registry.build_task(name, {"data": str(data)})
    primary = registry.find("task", name).spec.primary
    samples = list(task.samples())
    assert len(samples) == rows
    pictures = {image.key: image.read() for sample in samples for image in sample.images}
    assert len(pictures) == 21
    assert all(picture.startswith(b"\x89PNG") for picture in pictures.values())
    right = {sample.id: right_answer(sample) for sample in samples}
    assert task.score(right).value == primary.high
    wrong = task.score(dict.fromkeys(right, "zzzz"))
    assert (wrong.value, set(wrong.verdicts.values())) == (primary.low, {0})
    some = right | {sample.id: None for sample in samples[::2]}
    score = task.score(some)
    assert score.failed == len(samples[::2])
    assert {each: verdict == 1 for each, verdict in score.verdicts.items()} == {
        each: said is not None for each, said in some.items()
    }
