"""The vision-language model contract.

The contract is image-centric: a batch holds images, each with all its
questions, so that an implementation can encode an image once, prefill the
prefix that its questions share once, and batch across images.  Questions are
structured; a VLM turns them into its own prompt.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

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
        transient: whether the failure may pass (a server that is down, memory that is
            short): the question is asked again when the run is started again, and its
            cell is not scored until then.
        usage: what it cost, such as ``{"output_tokens": 3}``.
    """

    text: str | None
    failure: str = ""
    transient: bool = False
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


class VisionAccess(Protocol):
    """A vision encoder, open for adaptation.

    Tensors are PyTorch's, which this module does not import, hence ``Any``.  Images
    are preprocessed to *pictures*, opaque but for ``picture.layout``.  A layout says
    how the tokens of an image lie: ``tiles``, ``rows`` and ``columns`` of patches,
    ``extra`` class tokens that precede them.  Hidden states of an image have the shape
    ``(tiles, extra + rows * columns, width)``, patches row by row.  Encoded images
    have ``features`` ``(visual tokens, width of the language model)`` and a ``layout``.
    Everything is differentiable.

    Attributes:
        layers: number of transformer layers.
        width: of the hidden states.
        angles: rotary angles per token, 0 where positions are learned.
    """

    layers: int
    width: int
    angles: int

    def prepare(self, images: Sequence[Image]) -> Sequence[Any]:
        """Return pictures of RGB images, at the model's default resolution."""
        ...

    def encode(
        self, pictures: Sequence[Any], *, embedding: Any = None, angles: Any = None
    ) -> Sequence[Any]:
        """Return what enters the language model, per image.

        Args:
            pictures: of the images.
            embedding: condition per image ``(images, width)``, added to every token
                after patch embedding (and learned positions).
            angles: condition per image ``(images, angles)``, added to the rotary
                angles of every token.  Attention depends on differences of angles, so
                this cancels; it is offered because published methods do it.

        Raises:
            ConfigError: *angles* where there are none.
        """
        ...

    def hidden_states(
        self,
        pictures: Sequence[Any],
        layers: Collection[int],
        *,
        embedding: Any = None,
        angles: Any = None,
    ) -> Mapping[int, Sequence[Any]]:
        """Return the input of each of *layers*, per image; the last number is the output."""
        ...

    def attention(
        self, pictures: Sequence[Any], layers: Collection[int]
    ) -> Mapping[int, Sequence[Any]]:
        """Return attention of *layers*, per image ``(tiles, heads, tokens, tokens)``."""
        ...

    def enter(self, layer: int, states: Sequence[Any], layouts: Sequence[Any]) -> Sequence[Any]:
        """Run the layers from *layer* on with *states* as its input; return as encode does.

        Raises:
            ConfigError: there is no such layer, or a shape contradicts its layout.
        """
        ...

    def parameters(self) -> Mapping[str, Any]:
        """Return the trainable parameters of encoder and projector, by name."""
        ...


#: Encodes pictures, given how each was compressed; what an adaptor puts in the place of
#: :meth:`VisionAccess.encode`.
VisionEncoder = Callable[[Sequence[Any], Sequence[Condition]], Sequence[Any]]


class Vlm(ABC):
    """A model.

    A run builds every VLM once to learn its provenance, before it knows whether
    there is anything to ask it, so large weights are best loaded at the first
    answer.
    """

    #: Whether :class:`Condition` must carry the bitstream.
    wants_bitstream: bool = False

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

    def expect(self, item: ImageQuestions) -> None:  # noqa: B027 - most leave it empty
        """Take note that :meth:`answer` will be given *item* soon.

        Called from the thread that decodes ahead, while :meth:`answer` may be running;
        the same image object follows.  A VLM can begin to preprocess it; most ignore it.
        """

    def provenance(self) -> Mapping[str, str]:
        """Return what else decides the answers, for the manifest and the cache key.

        Hash of the weights, library versions, image-processor backend, dtype.
        """
        return {}

    @property
    def vision(self) -> VisionAccess:
        """Access to the vision encoder, for adaptors.

        Raises:
            NotImplementedError: the VLM gives none.
        """
        raise NotImplementedError(f"{type(self).__name__} gives no access to its vision encoder")

    def with_encoder(
        self,
        encode: VisionEncoder,
        *,
        wants_bitstream: bool = False,
        provenance: Mapping[str, str] | None = None,
    ) -> Vlm:
        """Return a VLM that shares the weights and whose images *encode* encodes.

        Args:
            encode: called with pictures and their conditions.
            wants_bitstream: whether the conditions must carry the bitstream.
            provenance: what it adds to :meth:`provenance`.

        Raises:
            NotImplementedError: the VLM gives no access to its vision encoder.
        """
        raise NotImplementedError(f"{type(self).__name__} gives no access to its vision encoder")
