"""Every task says how its score is made of its samples, so that reports can resample it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from lossylens.errors import DataError
from lossylens.grid.config import load_config
from lossylens.registry.plugins import load_registry
from lossylens.run.aggregate import aggregate_of_sums
from lossylens.run.driver import run
from lossylens.run.scoring import resampling_problems
from lossylens.task import Task
from lossylens_report.reading import read_run
from lossylens_task_scenes.export import BENCHMARKS, export

SAMPLE = Path(__file__).parents[1] / "core" / "tests" / "sample"

TASKS = (*BENCHMARKS, "scenes")

#: What a model may say beside the answer; None for a sample that failed.
REPLIES = ("Yes", "no", "A", "B", "", "a red circle on a wall", None)

Build = Callable[[str], Task]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Return a small instance of a task by name, each once."""
    folder, built = tmp_path_factory.mktemp("data"), {}

    def make(name: str) -> Task:
        if name not in built:
            options: dict[str, object] = {"images": 3, "size": 96}
            if name in BENCHMARKS:
                path = folder / f"{name}.tsv"
                export(name, path, max(3, BENCHMARKS[name].least), seed=3, size=96)
                options = {"data": str(path)}
            built[name] = load_registry(strict=False).build_task(name, options)
        return built[name]

    return make


@pytest.mark.parametrize("name", TASKS)
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32), clusters=st.integers(1, 5))
def test_the_score_is_the_aggregate_of_all_clusters(
    build: Build, name: str, seed: int, clusters: int
) -> None:
    task, chance = build(name), Random(seed)
    predictions = {
        sample.id: chance.choice((*REPLIES, sample.fields["answer"], sample.fields["answer"]))
        for sample in task.samples()
        if chance.random() < 0.9
    }
    try:
        score = task.score(predictions)
    except DataError:  # MMBench without an original question
        assume(False)
    assert score.resampling is not None
    assert list(resampling_problems(score, predictions)) == []
    sums = score.resampling.sums({each: str(chance.randrange(clusters)) for each in predictions})
    whole = [sum(column) for column in zip(*sums.values(), strict=True)]
    found = aggregate_of_sums(score.resampling.aggregate, whole, score.resampling.factor)
    assert float(found) == pytest.approx(score.value, rel=1e-9)


def test_mme_has_an_interval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several means; the sample plugin's VLM answers."""
    monkeypatch.syspath_prepend(SAMPLE)
    monkeypatch.setenv("LOSSYLENS_PLUGINS", "sample,mme")
    replies = "[Answer(['Yes', 'No'][len(q.text) % 2]) for q in batch[0].questions]"
    monkeypatch.setenv("SAMPLE_REPLY", replies)
    data = tmp_path / "mme.tsv"
    export("mme", data, 4 * BENCHMARKS["mme"].least, seed=3, size=96)
    config = tmp_path / "config.yaml"
    config.write_text(
        "codecs: {blocky: {levels: [b16]}}\nvlms: {seer: {batch_images: 1}}\n"
        f"tasks: {{mme: {{data: {data}}}}}\nrun: {{out: {tmp_path / 'run'}, workers: 1}}\n"
    )
    chosen = load_config(config, [])
    run(chosen, lambda line: None)
    reading = read_run(chosen.run.out)
    assert reading.results.notes == ()
    for cell in reading.results.cells:
        assert cell.interval is not None
        low, high = cell.interval
        assert 0 <= low < cell.value < high <= 2000
        scores = reading.replicates[cell.key].scores
        assert np.nanstd(scores) > 0
        assert np.isfinite(scores).mean() > 0.5
