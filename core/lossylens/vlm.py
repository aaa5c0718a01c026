"""The vision-language model contract.

The contract is image-centric: a batch holds images, each with all its
questions, so that an implementation can encode an image once, prefill the
prefix that its questions share once, and batch across images.  Questions are
structured; a VLM turns them into its own prompt.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

from lossylens.spec import PluginSpec

if TYPE_CHECKING:
    from PIL.Image import Image


class QuestionKind(StrEnum):
    """What form of answer a question asks for."""

    YES_NO = "yes_no"
    MULTIPLE_CHOICE = "multiple_choice"
    SHORT_ANSWER = "short_answer"
    OPEN = "open"
    CAPTION = "caption"


@dataclass(frozen=True, slots=True)
class Question:
    """A structured question about one image.

    Attributes:
        kind: form of the answer.
        text: the question as the data set words it.
        task: canonical name of the task it belongs to, ``""`` for a question
            typed by a user; lets a VLM word it as its authors did.
        options: letter to option text, for multiple choice.
        hint: additional text given before the question, or ``""``.
        max_new_tokens: limit on the answer's length in tokens; None leaves it
            to the VLM.
    """

    kind: QuestionKind
    text: str
    task: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    hint: str = ""
    max_new_tokens: int | None = None


def default_prompt(question: Question) -> str:
    """Return the reference evaluator's generic wording of *question*.

    This is what VLMEvalKit gives to models that have no wording of their own.
    The image precedes the text.
    """
    if question.kind is QuestionKind.SHORT_ANSWER:
        return f"{question.text}\nAnswer the question using a single word or phrase."
    if question.kind is not QuestionKind.MULTIPLE_CHOICE:
        return question.text
    prompt = f"Hint: {question.hint}\n" if question.hint else ""
    prompt += f"Question: {question.text}\n"
    if not question.options:
        return prompt
    prompt += "Options:\n"
    prompt += "".join(f"{letter}. {text}\n" for letter, text in question.options.items())
    # The blank before the newline is the evaluator's.
    return prompt + "Please select the correct answer from the options above. \n"  # noqa: S608 - a prompt, not SQL


@dataclass(frozen=True, slots=True)
class Condition:
    """How the image reached the model; adaptors may depend on it.

    Attributes:
        codec: canonical codec name.
        level: level name.
        bitstream: the bitstream itself, or None unless the VLM asked for it
            (:attr:`Vlm.wants_bitstream`).
    """

    codec: str
    level: str
    bitstream: bytes | None = None


@dataclass(frozen=True, slots=True)
class ImageQuestions:
    """One decoded RGB image with everything that is asked about it."""

    image: Image
    questions: tuple[Question, ...]
    condition: Condition


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one question, or the reason why there is none.

    Attributes:
        text: what the model wrote, without special tokens; None if it failed.
        failure: the reason, when ``text`` is None.
        usage: what it cost, such as ``{"output_tokens": 3}``.
    """

    text: str | None
    failure: str = ""
    usage: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class VlmSpec(PluginSpec):
    """Declaration of a vision-language model.

    The factory is called as ``factory(options)``.

    Attributes:
        parameters: number of parameters, in millions.
    """

    kind: ClassVar[str] = "vlm"

    parameters: float


class Vlm(ABC):
    """A model.

    A run builds every VLM once to learn its provenance, before it knows whether
    there is anything to ask it, so large weights are best loaded at the first
    answer.
    """

    #: Whether :class:`Condition` must carry the bitstream.
    wants_bitstream: ClassVar[bool] = False

    #: How many images a call of :meth:`answer` should hold at best.
    batch_images: int = 1

    @abstractmethod
    def answer(self, batch: Sequence[ImageQuestions]) -> list[list[Answer]]:
        """Answer all questions of all images, in order.

        Decoding is greedy: the same batch gives the same answers, and an answer
        does not depend on what else is in the batch.  A question that cannot be
        answered (too long, say) becomes an :class:`Answer` with a failure; an
        exception means that no question of the batch was answered.
        """

    def provenance(self) -> Mapping[str, str]:
        """Return what else decides the answers, for the manifest and the cache key.

        Hash of the weights, library versions, image-processor backend, dtype.
        """
        return {}

    @property
    def vision(self) -> Any:
        """Access to the vision encoder, for adaptors.

        Raises:
            NotImplementedError: the VLM gives none.
        """
        raise NotImplementedError(f"{type(self).__name__} gives no access to its vision encoder")
