from __future__ import annotations

import io
import math
import pickle
import subprocess
import sys

import pytest
from lossylens.errors import ConfigError, DataError
from lossylens.task import Sample, TaskSpec
from lossylens_task_scenes import plugin
from lossylens_task_scenes.options import ScenesOptions, check_size
from lossylens_task_scenes.questions.scene_question import SceneQuestion
from lossylens_task_scenes.scene import MIN_SIZE
from lossylens_task_scenes.scoring import caption_f1, extract
from lossylens_task_scenes.task import ScenesTask, size_bin
from lossylens_toolkit.photographs import PHOTOGRAPH_SETS, check_photographs, photograph_names
from PIL import Image


@pytest.fixture(scope="module")
def task() -> ScenesTask:
    return ScenesTask(ScenesOptions(images=12, size=96))


@pytest.fixture(scope="module")
def samples(task: ScenesTask) -> list[Sample]:
    return list(task.samples())


@pytest.fixture
def perfect(samples: list[Sample]) -> dict[str, str]:
    return {sample.id: sample.fields["answer"] for sample in samples}


def test_the_plugin_module_is_light() -> None:
    code = (
        "import sys, lossylens_task_scenes.plugin as p; p.register_tasks(lambda spec: None);"
        "print([m for m in ('numpy', 'PIL', 'matplotlib', 'skimage', 'torch') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert result.stdout.strip() == "[]"


def test_registration() -> None:
    specs: list[TaskSpec] = []
    plugin.register_tasks(specs.append)
    (spec,) = specs
    assert spec.name == "scenes"
    module, name = spec.factory.split(":")
    assert getattr(__import__(module, fromlist=[name]), name) is ScenesTask
    assert isinstance(spec.options(), ScenesOptions)


def test_samples(task: ScenesTask, samples: list[Sample]) -> None:
    assert list(task.samples()) == samples or [s.id for s in task.samples()] == [
        s.id for s in samples
    ]
    assert len({sample.id for sample in samples}) == len(samples)
    assert len({sample.images[0].key for sample in samples}) == 12
    kinds = {sample.question.kind.value for sample in samples}
    assert kinds == {"yes_no", "multiple_choice", "short_answer", "open", "caption"}
    for sample in samples:
        assert sample.question.task == "scenes"
        assert bool(sample.question.options) == (sample.question.kind.value == "multiple_choice")


def test_pictures_can_be_read_in_another_process(samples: list[Sample]) -> None:
    read = pickle.loads(pickle.dumps(samples[0].images[0].read))
    assert read() == samples[0].images[0].read()
    assert Image.open(io.BytesIO(read())).size == (96, 96)


def test_right_answers_score_100(task: ScenesTask, perfect: dict[str, str]) -> None:
    score = task.score(perfect)
    assert score.value == score.metrics["accuracy"] == 100.0
    assert set(score.metrics["topics"].values()) == {100.0}
    assert set(score.metrics["sizes"].values()) == {100.0}
    assert score.metrics["caption_f1"] == pytest.approx(100.0)
    assert (score.missing, score.failed, score.unextracted) == (0, 0, 0)
    assert set(score.verdicts.values()) == {1.0, None}


def test_case_blanks_and_a_period_do_not_matter(task: ScenesTask, perfect: dict[str, str]) -> None:
    assert task.score({k: f" {v.upper()}.\n" for k, v in perfect.items()}).value == 100.0


def test_wrong_missing_and_failed(task: ScenesTask, perfect: dict[str, str]) -> None:
    first, second, third, *_ = (k for k in perfect)
    predictions: dict[str, str | None] = {**perfect, first: None, second: "perhaps"}
    del predictions[third]
    score = task.score(predictions)
    asked = sum(verdict is not None for verdict in score.verdicts.values())
    # What was not asked does not count; what failed is wrong.
    assert score.value == pytest.approx(100 * (asked - 2) / asked)
    assert (score.missing, score.failed) == (1, 1)
    assert score.samples == len(perfect)
    assert [score.verdicts[k] for k in (first, second)] == [0.0, 0.0]
    assert third not in score.verdicts


def test_unknown_sample(task: ScenesTask) -> None:
    with pytest.raises(DataError, match="12-0"):
        task.score({"12-0": "Yes"})


def test_nothing_answered(task: ScenesTask) -> None:
    score = task.score({})
    assert math.isnan(score.value)
    assert score.missing == score.samples


@pytest.mark.parametrize(
    ("kind", "prediction", "expected"),
    [
        ("yes_no", "Yes, there is.", "Yes"),
        ("yes_no", "no", "No"),
        ("yes_no", "not sure", None),
        ("yes_no", "", None),
        ("multiple_choice", "B", "B"),
        ("multiple_choice", "b.", "B"),
        ("multiple_choice", "(B) blue", "B"),
        ("multiple_choice", "B. blue", "B"),
        ("multiple_choice", "Blue", "B"),
        ("multiple_choice", "a circle", None),
        ("multiple_choice", "D", None),
        ("multiple_choice", "BC", None),
        ("short_answer", " Top left. ", "Top left"),
    ],
)
def test_extraction(kind: str, prediction: str, expected: str | None) -> None:
    options = ("red", "blue", "green") if kind == "multiple_choice" else ()
    question = SceneQuestion(kind, "color", "?", "B", options=options)  # type: ignore[arg-type]
    assert extract(question, prediction) == expected


def test_caption_f1() -> None:
    assert caption_f1("a red star", ["a red star", "a star"]) == 1.0
    assert caption_f1("", ["a red star"]) == 0.0
    assert caption_f1("a blue star", ["a red star"]) == pytest.approx(2 / 3)


def test_size_bins() -> None:
    assert [size_bin(pixels, 224) for pixels in (0, 8, 18, 40, 70)] == [
        "", "tiny", "small", "medium", "large",
    ]  # fmt: skip
    assert size_bin(70, 448) == "medium"


def test_fingerprint_follows_the_options() -> None:
    def fingerprint(**changes: object) -> str:
        # Six scenes: some of them have a photograph behind them that is not held out.
        return ScenesTask(ScenesOptions(**{"images": 6, "size": 96, **changes})).fingerprint()

    base = fingerprint()
    assert fingerprint() == base
    others = [
        fingerprint(images=3), fingerprint(seed=8), fingerprint(size=128),
        fingerprint(topics=["color"]), fingerprint(photographs="held-out"),
    ]  # fmt: skip
    assert len({base, *others}) == 6


def test_topics_restrict(task: ScenesTask) -> None:
    chosen = ScenesTask(ScenesOptions(images=5, size=96, topics=["word", "caption"]))
    assert {s.fields["topic"] for s in chosen.samples()} == {"word", "caption"}
    assert not math.isnan(chosen.score({s.id: "" for s in chosen.samples()}).value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": 0}, "images"),
        ({"seed": -1}, "seed"),
        ({"topics": ["colour"]}, "Did you mean color"),
        ({"topics": ["caption"]}, "add another topic"),
        ({"size": 50}, "96"),
        ({"photographs": "heldout"}, "Did you mean"),
    ],
)
def test_wrong_options(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ScenesTask(ScenesOptions(**changes))  # type: ignore[arg-type]


def test_the_light_module_repeats_the_limits_rightly() -> None:
    assert check_size(MIN_SIZE) == MIN_SIZE
    with pytest.raises(ConfigError):
        check_size(MIN_SIZE - 1)
    for name in PHOTOGRAPH_SETS:
        assert photograph_names(check_photographs(name))


def test_provenance(task: ScenesTask) -> None:
    assert task.provenance()["seed"] == "7"
