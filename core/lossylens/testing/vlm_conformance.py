"""What every VLM must do: the contract of :mod:`lossylens.vlm` as tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

import pytest

from lossylens.codec import SOURCE, CodecPoint
from lossylens.testing.decoding_process import raised
from lossylens.testing.pictures import picture
from lossylens.testing.subject import PluginSubject, check, fail
from lossylens.testing.suite import ConformanceSuite
from lossylens.vlm import (
    Answer,
    Condition,
    ImageQuestions,
    Question,
    QuestionKind,
    Vlm,
    VlmSpec,
    parse_box,
)

#: Most tokens of an answer, so that a large model takes no longer than it must.
_LIMIT = 4

_YES_NO = Question(
    QuestionKind.YES_NO,
    "Is there a circle in the image? Please answer yes or no.",
    max_new_tokens=_LIMIT,
)

#: One of each kind that every VLM is asked.
QUESTIONS = (
    _YES_NO,
    Question(
        QuestionKind.MULTIPLE_CHOICE,
        "What is the background?",
        options={"A": "bright", "B": "dark", "C": "striped"},
        hint="Look at the corners.",
        max_new_tokens=_LIMIT,
    ),
    Question(QuestionKind.SHORT_ANSWER, "What colour is it?", max_new_tokens=_LIMIT),
    Question(QuestionKind.OPEN, "What is in the upper half?", max_new_tokens=_LIMIT),
    Question(QuestionKind.CAPTION, "Describe the image.", max_new_tokens=_LIMIT),
)


class VlmSubject(PluginSubject[VlmSpec]):
    """A VLM under test."""

    def check_built(self) -> None:
        """Build the VLM; its weights are loaded by the first answer."""
        _ = self.vlm

    def build(self) -> Vlm:
        """Return a new instance."""
        return self.registry.build_vlm(self.spec.name, self.options)

    @cached_property
    def vlm(self) -> Vlm:
        """The instance that most checks share."""
        return self.build()

    def item(
        self, seeds: Sequence[int], questions: Sequence[Question] = QUESTIONS
    ) -> ImageQuestions:
        """Return *questions* about pictures, one for each of *seeds*, with their conditions.

        The first is of another shape than the second, and each was compressed otherwise.
        """
        images = tuple(picture(*_SHAPES[seed % len(_SHAPES)], seed) for seed in seeds)
        conditions = tuple(
            Condition(
                CodecPoint("test", f"q{seed}", "test", f"key of q{seed}"),
                image.size,
                bytes(900 + seed) if self.vlm.wants_bitstream else None,
            )
            for seed, image in zip(seeds, images, strict=True)
        )
        return ImageQuestions(images, tuple(questions), conditions)

    @cached_property
    def items(self) -> list[ImageQuestions]:
        """Three pictures with the same questions."""
        return [self.item([seed]) for seed in range(3)]

    @cached_property
    def alone(self) -> list[list[str | None]]:
        """The texts that are answered to each of :attr:`items` alone."""
        return [texts(ask(self.vlm, [item]))[0] for item in self.items]


#: Height and width.
_SHAPES = ((96, 120), (128, 90), (100, 100))


def ask(vlm: Vlm, batch: Sequence[ImageQuestions], what: str = "") -> list[list[Answer]]:
    """Return the answers; fail, naming *what* was asked, unless there is one to each question."""
    what = what or f"a batch of {len(batch)}"
    try:
        given: Any = vlm.answer(list(batch))
    except Exception as error:
        fail(f"{what}: answering raised {raised(error)}")
    check(isinstance(given, list), f"{what}: answer returned a {type(given).__name__}, no list")
    expected = [len(item.questions) for item in batch]
    counts = [len(each) if isinstance(each, list | tuple) else None for each in given]
    check(counts == expected, f"{what}: {counts} answers to {expected} questions")
    for answer in (each for answers in given for each in answers):
        check(isinstance(answer, Answer), f"{what}: {answer!r:.60} instead of an Answer")
        check(
            isinstance(answer.text, str) or bool(answer.failure),
            f"{what}: {answer!r:.80}, an Answer without a text must say in `failure` why",
        )
    return given


def texts(answers: Sequence[Sequence[Answer]]) -> list[list[str | None]]:
    """Return the texts of answers."""
    return [[each.text for each in of_image] for of_image in answers]


class VlmConformance(ConformanceSuite):
    """The tests that every VLM must pass.

    A module of tests derives a class from it, whose name starts with ``Test``.  The pictures
    have about 12 000 pixels, and answers are of four tokens at most.

    Attributes:
        vlms: names of the VLMs; without any, those of the option ``--vlm``.
        options: of the VLMs, as in a configuration.
        long: words of a question that is too long for most models.
    """

    kind: ClassVar[str] = "vlm"
    vlms: ClassVar[tuple[str, ...]] = ()
    long: ClassVar[int] = 30_000

    @classmethod
    def make_subject(
        cls, name: str, given: Mapping[str, Any], request: pytest.FixtureRequest
    ) -> VlmSubject:
        """Return the VLM under test."""
        return VlmSubject("vlm", name, given)

    def test_provenance(self, subject: VlmSubject) -> None:
        """It is text, and the same for every instance, before and after an answer."""
        found = dict(subject.build().provenance())
        for each in found.items():
            text = all(isinstance(part, str) and part for part in each)
            check(text, f"provenance has {each}, which must be two texts that are not empty")
        _ = subject.alone
        again = dict(subject.vlm.provenance())
        check(again == found, f"provenance changes once it has answered: {again}, was {found}")

    def test_every_kind_of_question(self, subject: VlmSubject) -> None:
        """Each is answered, and a batch is not asked for more images than it can hold."""
        check(subject.vlm.batch_images >= 1, f"batch_images is {subject.vlm.batch_images}")
        for question, text in zip(QUESTIONS, subject.alone[0], strict=True):
            check(text is not None, f"a question of kind {question.kind} was not answered")

    def test_boxes(self, subject: VlmSubject) -> None:
        """A model that grounds answers with a box, or says that it found none."""
        if not subject.spec.grounds:
            pytest.skip("the VLM is not declared to answer questions for boxes")
        question = Question(QuestionKind.BOX, "Where is the rectangle?", max_new_tokens=40)
        [[answer]] = ask(subject.vlm, [subject.item([0], [question])])
        check(
            answer.text is None or not answer.text.startswith("[") or parse_box(answer.text),
            f"a question for a box: {answer.text!r:.60} looks like a box and is none; see"
            " lossylens.vlm.format_box",
        )

    def test_answers_are_deterministic(self, subject: VlmSubject) -> None:
        """Asked again, and by another instance, the same is answered."""
        [again] = texts(ask(subject.vlm, subject.items[:1]))
        check(again == subject.alone[0], f"asked twice: {subject.alone[0]}, then {again}")
        [other] = texts(ask(subject.build(), subject.items[:1]))
        check(other == again, f"another instance answers {other}, not {again}")

    def test_answers_come_in_order(self, subject: VlmSubject) -> None:
        """Questions in another order get the same answers in that order."""
        item = subject.items[0]
        turned = replace(item, questions=item.questions[::-1])
        [found] = texts(ask(subject.vlm, [turned]))
        wanted = subject.alone[0][::-1]
        check(found == wanted, f"questions in reverse order: {found}, instead of {wanted}")

    def test_answers_do_not_depend_on_the_batch(self, subject: VlmSubject) -> None:
        """Whatever else is in it, and in whichever order."""
        for order in ([0, 1, 2], [2, 1, 0]):
            found = texts(ask(subject.vlm, [subject.items[place] for place in order]))
            for place, answers in zip(order, found, strict=True):
                check(
                    answers == subject.alone[place],
                    f"picture {place} in a batch of pictures {order}: {answers}, alone"
                    f" {subject.alone[place]}",
                )

    def test_expecting_changes_nothing(self, subject: VlmSubject) -> None:
        """What is announced may never come, or come later."""
        vlm, wanted = subject.vlm, subject.alone[0]
        try:
            vlm.expect(subject.items[1])
            vlm.expect(subject.items[0])
        except Exception as error:
            fail(f"expect raised {raised(error)}")
        [found] = texts(ask(vlm, subject.items[:1]))
        check(found == wanted, f"announced: {found}, else {wanted}")

    def test_the_pictures_are_left_as_they_are(self, subject: VlmSubject) -> None:
        """Others look at them too."""
        item = subject.item([0])
        before = item.image.tobytes()
        ask(subject.vlm, [item])
        check(item.image.tobytes() == before, "answering has changed the picture it was given")

    def test_several_images(self, subject: VlmSubject) -> None:
        """As many as it is declared to take, in any order of the markers."""
        most = subject.spec.max_images
        check(most >= 1, f"max_images is {most}; it must be 1 or more")
        if most == 1:
            pytest.skip("the VLM takes one image")
        questions = [
            Question(QuestionKind.OPEN, text, max_new_tokens=_LIMIT)
            for text in ("Are they alike?", "Is <image 2> like <image 1>?")
        ]
        items = [subject.item([0, 1], questions), subject.item([1, 1], questions)]
        found = texts(ask(subject.vlm, items, "questions about two images"))
        for item, answers in zip(items, found, strict=True):
            check(None not in answers, "a question about two images was not answered")
            [alone] = texts(ask(subject.vlm, [item]))
            check(alone == answers, f"two images: {answers} in a batch, alone {alone}")
        ask(subject.vlm, [subject.item(range(min(most, 5)), questions)], "five images, or as many")

    def test_what_cannot_be_answered(self, subject: VlmSubject) -> None:
        """A question that is too long fails alone, with a reason, or is answered."""
        long = replace(_YES_NO, text="Is there a very large star? " * (self.long // 6))
        item = subject.item([0], [_YES_NO, long])
        [[control, answer]] = ask(subject.vlm, [item], f"a question of {self.long} words")
        wanted = subject.alone[0][0]
        check(
            control.text == wanted,
            f"beside a question that is too long: {control.text!r}, alone {wanted!r}",
        )
        if answer.text is None:
            check(answer.failure.strip(), "a question that is too long fails without a reason")

    def test_conditions_reach_the_encoder(self, subject: VlmSubject) -> None:
        """What encodes in place of the encoder gets each picture with its own condition."""
        vlm = subject.vlm
        try:
            vision = vlm.vision
        except NotImplementedError:
            pytest.skip("the VLM gives no access to its vision encoder")
        given: list[Condition] = []

        def encode(pictures: Sequence[Any], conditions: Sequence[Condition]) -> Sequence[Any]:
            check(
                len(pictures) == len(conditions),
                f"{len(pictures)} pictures were encoded with {len(conditions)} conditions",
            )
            for each, condition in zip(pictures, conditions, strict=True):
                wanted = vision.layout(condition.size)
                check(
                    each.layout == wanted,
                    f"a picture of layout {each.layout} came with the condition of another"
                    f" image, whose layout is {wanted}",
                )
            given.extend(conditions)
            return vision.encode(pictures)

        found = texts(ask(vlm.with_encoder(encode), subject.items))
        wanted = [item.condition for item in subject.items]
        check(
            sorted(each.point.level for each in given) == [each.point.level for each in wanted],
            f"the encoder was called with the conditions {given}, not with {wanted}",
        )
        check(found == subject.alone, f"with its own encoder in place: {found}, {subject.alone}")
        [plain] = texts(ask(vlm, subject.items[:1]))
        check(plain == subject.alone[0], "with_encoder has changed the VLM that it was called on")

    def test_the_original_image(self, subject: VlmSubject) -> None:
        """It comes without a bitstream, whatever the VLM wants."""
        item = subject.items[0]
        source = replace(item, conditions=(Condition(SOURCE, item.image.size),))
        ask(subject.vlm, [source], "an original image")
