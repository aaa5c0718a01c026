"""What every task must do: the contract of :mod:`lossylens.task` as tests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import pytest

from lossylens.errors import DataError, LossylensError
from lossylens.images import read_image
from lossylens.run.scoring import resampling_problems, score_problems
from lossylens.task import ImageRef, Sample, Score, Task, TaskSpec
from lossylens.testing.decoding_process import raised
from lossylens.testing.subject import PluginSubject, check, fail
from lossylens.testing.suite import ConformanceSuite
from lossylens.vlm import Question, interleaved

#: An id that no data have.
_STRANGER = "no such sample"


class TaskSubject(PluginSubject[TaskSpec]):
    """A task under test."""

    def check_built(self) -> None:
        """Build the task."""
        _ = self.task

    def build(self, options: Mapping[str, Any] | None = None) -> Task:
        """Return a new instance."""
        return self.registry.build_task(
            self.spec.name, self.options if options is None else options
        )

    @cached_property
    def task(self) -> Task:
        """The instance that most checks share."""
        return self.build()

    @cached_property
    def samples(self) -> list[Sample]:
        """All samples."""
        return samples_of(self.task)

    def score(self, predictions: Mapping[str, str | None], what: str) -> Score:
        """Return the score; fail, naming *what* was scored, unless it is as promised."""
        try:
            score: Any = self.task.score(dict(predictions))
        except Exception as error:
            fail(f"{what}: scoring raised {raised(error)}")
        for problem in score_problems(score, self.spec.primary):
            fail(f"{what}: {problem}")
        for problem in resampling_problems(score, predictions):
            fail(f"{what}: {problem}")
        counts = (score.samples, score.missing, score.failed)
        wanted = (
            len(self.samples),
            len(self.samples) - len(predictions),
            sum(text is None for text in predictions.values()),
        )
        check(counts == wanted, f"{what}: samples, missing and failed are {counts}, not {wanted}")
        for name, per_sample in (("verdicts", score.verdicts), ("extracted", score.extracted)):
            strange = sorted(set(per_sample) - set(predictions))
            check(not strange, f"{what}: {name} of samples without a prediction: {strange[:3]}")
        earned = {key: each for key, each in score.verdicts.items() if each is not None}
        outside = {key: each for key, each in earned.items() if not 0 <= each <= 1}
        check(not outside, f"{what}: verdicts outside 0 to 1: {outside}")
        return score

    def worth(self, score: Score) -> float:
        """Return the value of a score, larger if better."""
        return score.value if self.spec.primary.higher_is_better else -score.value


def samples_of(task: Task, what: str = "") -> list[Sample]:
    """Return all samples; fail unless they are samples."""
    try:
        found: list[Any] = list(task.samples())
    except Exception as error:
        fail(f"{what}samples() raised {raised(error)}")
    for each in found:
        check(isinstance(each, Sample), f"{what}samples() gave {each!r:.60} instead of a Sample")
    return found


def read(image: ImageRef) -> str:
    """Return why the picture cannot be shown, or ``""``."""
    try:
        data = image.read()
    except (LossylensError, OSError) as error:
        check(str(error), f"picture {image.key!r}: an error without a message")
        return str(error)
    except Exception as error:
        fail(
            f"picture {image.key!r}: read raised {raised(error)} instead of a LossylensError or"
            " an OSError"
        )
    check(isinstance(data, bytes), f"picture {image.key!r}: {type(data).__name__} instead of bytes")
    try:
        read_image(data)
    except LossylensError as error:
        return str(error)
    return ""


class TaskConformance(ConformanceSuite):
    """The tests that every task must pass, on data of a few samples.

    A module of tests derives a class from it, whose name starts with ``Test``.

    Attributes:
        tasks: names of the tasks; without any, those of the option ``--task``.
        options: of the tasks, as in a configuration.
    """

    kind: ClassVar[str] = "task"
    tasks: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def make_subject(
        cls, name: str, given: Mapping[str, Any], request: pytest.FixtureRequest
    ) -> TaskSubject:
        """Return the task under test."""
        return TaskSubject("task", name, given)

    @pytest.fixture(scope="class")
    @classmethod
    def damaged_options(cls) -> Mapping[str, Any] | None:
        """Options of the same data with a picture that cannot be read; None if there are none."""
        return None

    @classmethod
    def right_answers(cls, samples: Sequence[Sample]) -> Mapping[str, str] | None:
        """Return the prediction that is right for each sample; None if they are not known.

        By default what ``Sample.fields`` call ``answer``.
        """
        found = {each.id: each.fields.get("answer", "") for each in samples}
        return found if all(found.values()) else None

    # Samples

    def test_samples(self, subject: TaskSubject) -> None:
        """There are some, each with an id of its own, pictures and a question."""
        samples = subject.samples
        check(samples, "the data hold no sample")
        seen: set[str] = set()
        for each in samples:
            check(isinstance(each.id, str) and each.id, f"the id {each.id!r} is no text")
            check(each.id not in seen, f"two samples have the id {each.id!r}")
            seen.add(each.id)
            check(
                isinstance(each.question, Question),
                f"{each.id}: {each.question!r:.60} is no Question",
            )
            check(each.images, f"sample {each.id}: there is no picture")
            asked = " ".join(
                [each.question.hint, each.question.text, *each.question.options.values()]
            )
            try:
                interleaved(asked, len(each.images))
            except ValueError as error:
                fail(f"sample {each.id}: {error}")
            texts = all(isinstance(part, str) for pair in each.fields.items() for part in pair)
            check(texts, f"sample {each.id}: fields must be texts: {dict(each.fields)!r:.80}")
            named = each.question.task in ("", subject.spec.name)
            check(named, f"sample {each.id}: its question is of task {each.question.task!r}")

    def test_samples_are_always_the_same(self, subject: TaskSubject) -> None:
        """In order and content, of this instance and of another, and so is the fingerprint."""
        wanted = [_content(each) for each in subject.samples]
        other = subject.build()
        for what, task in (("a second time: ", subject.task), ("another instance: ", other)):
            found = [_content(each) for each in samples_of(task, what)]
            places = [
                n for n, pair in enumerate(zip(found, wanted, strict=False)) if len(set(pair)) > 1
            ]
            check(len(found) == len(wanted), f"{what}{len(found)} samples, not {len(wanted)}")
            check(not places, f"{what}sample {places[:1]} is another: {_at(found, places):.120}")
        fingerprint, again = subject.task.fingerprint(), other.fingerprint()
        text = isinstance(fingerprint, str) and fingerprint
        check(
            text, f"the fingerprint is {fingerprint!r:.60}, which must be a text that is not empty"
        )
        check(
            fingerprint == again, f"the fingerprint of another instance: {again}, not {fingerprint}"
        )
        source = dict(subject.task.provenance())
        check(dict(other.provenance()) == source, "provenance of another instance is another")

    def test_pictures(self, subject: TaskSubject) -> None:
        """Each can be read again and again, and one key means one picture."""
        contents: dict[str, bytes] = {}
        for image in (image for sample in subject.samples for image in sample.images):
            problem = read(image)
            check(not problem, f"picture {image.key!r}: {problem}")
            data = image.read()
            check(
                data == contents.setdefault(image.key, data),
                f"the key {image.key!r} means two pictures",
            )

    def test_pictures_that_cannot_be_read(
        self, subject: TaskSubject, damaged_options: Mapping[str, Any] | None
    ) -> None:
        """They fail when they are read; the samples are all there, and so are other pictures."""
        if damaged_options is None:
            pytest.skip("tests of the task say how its data are damaged: fixture damaged_options")
        task = subject.build(damaged_options)
        samples = samples_of(task, "with a picture that cannot be read: ")
        check(
            [each.id for each in samples] == [each.id for each in subject.samples],
            f"with a picture that cannot be read there are {len(samples)} samples, not"
            f" {len(subject.samples)} of the same ids",
        )
        problems = {
            each.id: [problem for image in each.images if (problem := read(image))]
            for each in samples
        }
        bad = [key for key, found in problems.items() if found]
        check(bad, "no picture fails when it is read, though one was damaged")
        check(
            len(bad) < len(samples),
            f"all pictures fail, though one was damaged: {problems[bad[0]][0]}",
        )

    # Scores

    def test_right_answers(self, subject: TaskSubject) -> None:
        """They are the best that there is: none is wrong, and nothing scores more."""
        answers = self.right_answers(subject.samples)
        if answers is None:
            pytest.skip("the samples do not say what is right: override right_answers")
        best = subject.score(answers, "the right answers")
        wrong = {key: each for key, each in best.verdicts.items() if each == 0}
        check(not wrong, f"right answers count as wrong: {list(wrong)[:3]}")
        check(best.unextracted == 0, f"no answer is read out of {best.unextracted} right answers")
        failed = subject.score(dict.fromkeys(answers), "failed samples")
        check(
            subject.worth(best) > subject.worth(failed),
            f"the right answers score {best.value:g}, failed samples {failed.value:g}",
        )
        again = subject.score(
            dict(reversed(list(answers.items()))), "the right answers in reverse order"
        )
        check(
            math.isclose(again.value, best.value, rel_tol=1e-9),
            f"the right answers in reverse order score {again.value:g}, not {best.value:g}",
        )

    def test_failed_samples(self, subject: TaskSubject) -> None:
        """They are counted, and none of them is right."""
        failed = subject.score(dict.fromkeys(each.id for each in subject.samples), "failed samples")
        right = [key for key, each in failed.verdicts.items() if each]
        check(not right, f"failed samples count as right: {right[:3]}")

    def test_empty_answers(self, subject: TaskSubject) -> None:
        """A model may say nothing; that is scored, and earns no more than the right answers."""
        said = subject.score({each.id: "" for each in subject.samples}, "empty answers")
        answers = self.right_answers(subject.samples)
        if answers is not None:
            best = subject.score(answers, "the right answers")
            check(
                subject.worth(said) <= subject.worth(best),
                f"empty answers score {said.value:g}, the right ones {best.value:g}",
            )

    def test_samples_that_were_not_asked(self, subject: TaskSubject) -> None:
        """They are missing and do not count; without any there is no score, or an error of data."""
        half = [each.id for each in subject.samples[: max(1, len(subject.samples) // 2)]]
        subject.score(dict.fromkeys(half, "yes"), "half of the samples")
        try:
            score = subject.task.score({})
        except DataError as error:
            check(str(error), "without predictions: a DataError without a message")
        except Exception as error:
            fail(f"without predictions: scoring raised {raised(error)} instead of a DataError")
        else:
            check(isinstance(score, Score), f"without predictions: {score!r:.60}, no Score")

    def test_unknown_samples(self, subject: TaskSubject) -> None:
        """A prediction for a sample that the data have not is refused, by its id."""
        known = {each.id: "yes" for each in subject.samples}
        try:
            subject.task.score({**known, _STRANGER: "yes"})
        except DataError as error:
            named = _STRANGER in str(error)
            check(named, f"a prediction for {_STRANGER!r}: the error does not name it: {error}")
        except Exception as error:
            fail(f"a prediction for {_STRANGER!r}: raised {raised(error)} instead of a DataError")
        else:
            fail(f"a prediction for {_STRANGER!r} was scored instead of refused with a DataError")


def _content(sample: Sample) -> str:
    """Return a sample in words, without the functions that read its pictures."""
    images = [(each.key, each.context) for each in sample.images]
    return repr((sample.id, images, sample.question, dict(sample.fields), sample.cluster))


def _at(found: Sequence[str], places: Sequence[int]) -> str:
    return found[places[0]] if places else ""
