"""A task in few lines, as a third party would write it."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence

import pytest
from lossylens.errors import ConfigError, DataError
from lossylens.task import Primary, TaskSpec
from lossylens.vlm import Question, QuestionKind
from lossylens_toolkit.cache_folder import cache_folder
from lossylens_toolkit.tsv_task import (
    Dataset,
    Judged,
    Row,
    Summary,
    TsvOptions,
    TsvTask,
    Verdict,
    data_needed,
)

DATASET = Dataset(
    name="Colours", url="https://example.org/Colours.tsv", columns=("question", "answer")
)


class Colours(TsvTask):
    spec = TaskSpec(
        name="colours",
        summary="What colour is it?",
        factory="test_base:Colours",
        options=TsvOptions,
        requirements=data_needed(DATASET, "colours"),
        primary=Primary(name="all/accuracy", low=0, high=1),
    )
    dataset = DATASET

    def question(self, row: Row) -> Question:
        return Question(QuestionKind.SHORT_ANSWER, row.text("question"), task="colours")

    def verdict(self, row: Row, prediction: str) -> Verdict:
        return Verdict(float(prediction == row.get("answer")), prediction, prediction != "nan")

    def summary(self, judged: Sequence[Judged]) -> Summary:
        mean = sum(each.verdict.credit or 0 for each in judged) / len(judged)
        return Summary({"all": {"accuracy": mean}})


@pytest.fixture
def path(write, pictures):
    return write(
        "index\timage\tquestion\tanswer\textra\n"
        f"1\t{pictures[0]}\tWhich?\tred\tx\n2\t1\tWhich?\tblue\tx\n3\t\tWhich?\tred\tx\n"
    )


@pytest.fixture
def task(path) -> Colours:
    return Colours(TsvOptions(data=str(path)))


def test_samples_have_question_picture_and_fields(task):
    samples = list(task.samples())
    assert [sample.id for sample in samples] == ["1", "2"]
    assert {sample.images[0].key for sample in samples} == {"1"}
    assert samples[0].question.text == "Which?"
    assert samples[1].fields == {"answer": "blue"}


def test_samples_are_the_same_each_time(task):
    assert list(task.samples()) == list(task.samples())


def test_scores_and_counts(task):
    score = task.score({"1": "red", "2": "red"})
    assert score.metrics == {"all": {"accuracy": 0.5}}
    assert score.value == 0.5
    assert score.verdicts == {"1": 1, "2": 0}
    assert score.extracted == {"1": "red", "2": "red"}
    assert (score.samples, score.missing, score.failed, score.unextracted) == (2, 0, 0, 0)


def test_missing_failed_and_unextracted_are_counted(task):
    score = task.score({"2": None})
    assert (score.samples, score.missing, score.failed, score.unextracted) == (2, 1, 1, 0)
    score = task.score({"1": ""})
    assert (score.samples, score.missing, score.failed, score.unextracted) == (2, 1, 0, 1)


def test_predictions_are_judged_by_their_effective_text(task):
    assert task.score({"1": "", "2": "=blue"}).extracted == {"1": "nan", "2": "0"}


def test_predictions_for_unknown_rows_are_named(task):
    with pytest.raises(DataError, match=r"for rows that .* does not have: index 3, x"):
        task.score({"1": "red", "3": "red", "x": "red"})


def test_two_predictions_for_one_row_are_named(task):
    with pytest.raises(DataError, match="two predictions for index 1"):
        task.score({"1": "red", "01": "red"})


def test_no_predictions_at_all_are_an_error(task):
    with pytest.raises(DataError, match="no predictions for its 2 rows"):
        task.score({})


def test_the_fingerprint_is_the_sha256_of_the_file(task, path):
    assert task.fingerprint() == hashlib.sha256(path.read_bytes()).hexdigest()
    assert task.provenance()["published"] == "unknown"
    assert task.provenance()["file"] == str(path)


def test_a_file_that_is_not_the_published_one_warns_and_says_so(task, caplog, monkeypatch):
    monkeypatch.setattr(Colours, "dataset", Dataset(name="Colours", md5="0" * 32))
    with caplog.at_level(logging.WARNING):
        assert task.provenance()["published"] == "no"
    assert "is not the published file of Colours" in caplog.text
    task.fingerprint()
    assert len(caplog.records) == 1


def test_the_published_file_is_recognised(task, path, caplog, monkeypatch):
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setattr(Colours, "dataset", Dataset(name="Colours", md5=md5))
    assert task.provenance()["published"] == "yes"
    assert not caplog.records


def test_the_home_folder_is_expanded(path, monkeypatch):
    monkeypatch.setenv("HOME", str(path.parent))
    assert len(list(Colours(TsvOptions(data=f"~/{path.name}")).samples())) == 2


def test_no_path_is_an_error_that_names_the_key():
    with pytest.raises(ConfigError, match=r"tasks\.colours\.data: not set"):
        Colours(TsvOptions())


def test_the_requirement_is_that_the_file_exists(path):
    check = Colours.spec.requirements
    assert check(TsvOptions(data=str(path))) == ()
    remedy = (
        "download https://example.org/Colours.tsv and set tasks.colours.data to its path, "
        "or to 'download'"
    )
    (missing,) = check(TsvOptions())
    assert (missing.what, missing.remedy) == ("Colours.tsv", remedy)
    assert check(TsvOptions(data="download")) == ()
    (missing,) = check(TsvOptions(data="/none.tsv"))
    assert (missing.what, missing.remedy) == ("Colours.tsv at /none.tsv", remedy)


def test_the_published_file_is_downloaded_to_the_cache_once(path, monkeypatch):
    asked = []

    def download(url, target, md5):
        asked.append((url, md5))
        target.parent.mkdir(parents=True)
        target.write_bytes(path.read_bytes())

    monkeypatch.setattr("lossylens_toolkit.download.download", download)
    for _ in range(2):
        task = Colours(TsvOptions(data="download"))
        assert len(list(task.samples())) == 2
    assert asked == [("https://example.org/Colours.tsv", "")]
    assert task.table.path == cache_folder() / "data" / "Colours.tsv"


def test_the_fingerprint_follows_a_file_of_the_same_size_and_time(task, path):
    first = task.fingerprint()
    status = path.stat()
    content = path.read_bytes()
    path.write_bytes(content[:-2] + bytes(reversed(content[-2:])))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert type(task)(task.options).fingerprint() != first
