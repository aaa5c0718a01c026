"""The vision-language model contract.

The contract is image-centric: a batch holds images (or ordered groups of them), each
with all its questions, so that an implementation can encode an image once, prefill the
prefix that its questions share once, and batch across images.  Questions are
structured; a VLM turns them into its own prompt.
"""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from lossylens.spec import PluginSpec

if TYPE_CHECKING:
    from PIL.Image import Image

    from lossylens.codec import CodecPoint, Latents


class QuestionKind(StrEnum):
    """What form of answer a question asks for."""

    YES_NO = "yes_no"
    MULTIPLE_CHOICE = "multiple_choice"
    SHORT_ANSWER = "short_answer"
    OPEN = "open"
    CAPTION = "caption"
    BOX = "box"


@dataclass(frozen=True, slots=True)
class Question:
    """A structured question about an image, or several.

    Attributes:
        kind: form of the answer.  The answer to a ``BOX`` question is a text as
            :func:`format_box` writes it; only the VLM knows in which units it thinks.
        text: the question as the data set words it.  Text, options and hint may hold
            markers ``<image 1>``, ``<image 2>`` ...: the places of the images, counted from
            1, which a VLM puts where its authors do.  Without markers, all images precede
            the text.
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

    This is what VLMEvalKit gives to models that have no wording of their own.  Markers
    are left in it: :func:`interleaved` puts the images in their places.
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


_MARKER = re.compile(r"<image (\d{1,4})>", re.ASCII)


def interleaved(text: str, images: int) -> list[str | int]:
    """Return *text* in parts, with numbers of images, counted from 0, where its markers were.

    This is how VLMEvalKit asks models that take text and images in any order: an image
    that is marked twice is given twice, one that is not marked is not given, and without
    markers all precede the text.

    Args:
        text: may hold markers, see :class:`Question`.
        images: how many there are.

    Raises:
        ValueError: a marker speaks of an image that is not there.
    """
    found = _MARKER.split(text)
    if len(found) == 1:
        return [*range(images), text]
    parts = [int(part) - 1 if place % 2 else part for place, part in enumerate(found)]
    for part in parts:
        if isinstance(part, int) and not 0 <= part < images:
            has = "there is one image" if images == 1 else f"there are {images} images"
            raise ValueError(f"the question speaks of <image {part + 1}>, but {has}")
    return [part for part in parts if part != ""]


#: Left, top, right and bottom as fractions of the image's width and height.
Box = tuple[float, float, float, float]

_BOX = re.compile(r"\[" + ", ".join([r"(-?\d+\.\d+)"] * 4) + r"\]")


def format_box(box: Box) -> str:
    """Return *box* as the text of an answer, such as ``[0.2500, 0.1000, 0.5000, 1.0000]``."""
    return f"[{', '.join(f'{side:.4f}' for side in box)}]"


def parse_box(text: str) -> Box | None:
    """Return the box that :func:`format_box` wrote, or None."""
    found = _BOX.fullmatch(text.strip())
    if found is None:
        return None
    left, top, right, bottom = map(float, found.groups())
    return left, top, right, bottom


@dataclass(frozen=True, slots=True)
class Condition:
    """How an image reached the model; adaptors may depend on it.

    Attributes:
        point: the codec at its level, as configured.
        size: width and height of the original image, in pixels.
        bitstream: the bitstream itself, if it was asked for (:attr:`Vlm.wants_bitstream`,
            :attr:`~lossylens.adaptor.Needs.BITSTREAM`) and there is one.
        latents: what the codec read from it, if that was asked for
            (:attr:`~lossylens.adaptor.Needs.LATENTS`).
    """

    point: CodecPoint
    size: tuple[int, int]
    bitstream: bytes | None = None
    latents: Latents | None = None


@dataclass(frozen=True, slots=True)
class ImageQuestions:
    """Decoded RGB images with everything that is asked about them together.

    Attributes:
        images: in the order of the markers in the questions; None for one that was not
            decoded, because the adaptor in place takes no pixels.
        questions: all that are asked.
        conditions: of the images, in their order.
    """

    images: tuple[Image | None, ...]
    questions: tuple[Question, ...]
    conditions: tuple[Condition, ...]

    @property
    def image(self) -> Image:
        """The image, for VLMs that take one (:attr:`VlmSpec.max_images`) and no adaptor.

        Raises:
            ValueError: there are several, or it was not decoded.
        """
        [image] = self.images
        if image is None:
            raise ValueError("the image was not decoded")
        return image

    @property
    def condition(self) -> Condition:
        """The condition of the image, for VLMs that take one.

        Raises:
            ValueError: there are several.
        """
        [condition] = self.conditions
        return condition


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


#: Bytes of a GPU by which a VLM says how many it needs.
GPU_MEMORY = 80_000_000_000


def no_gpus(options: Any) -> float:
    """Say that none is needed; for :class:`VlmSpec`."""
    return 0.0


@dataclass(frozen=True, kw_only=True)
class VlmSpec(PluginSpec):
    """Declaration of a vision-language model.

    The factory is called as ``factory(options)``.

    Attributes:
        parameters: number of parameters, in millions.
        max_images: how many images a question may be about.
        grounds: whether it answers questions of kind ``BOX``.
        gpus: how many GPUs of :data:`GPU_MEMORY` it needs, given an instance of ``options``;
            0 where it works without, or is told which to use.
    """

    kind: ClassVar[str] = "vlm"

    parameters: float
    max_images: int = 1
    grounds: bool = False
    gpus: Callable[[Any], float] = no_gpus


@dataclass(frozen=True)
class VlmIdentity:
    """A VLM as configured, for adaptors to know theirs.

    Attributes:
        name: canonical name of the VLM.
        label: what the configuration calls it.
        provenance: what :meth:`Vlm.provenance` said; hashes of its weights among it.
    """

    name: str
    label: str
    provenance: Mapping[str, str] = field(default_factory=dict)

    @property
    def weights(self) -> str:
        """Hash of the weights' hashes, ``""`` for a VLM that names none."""
        named = sorted(item for item in self.provenance.items() if item[0].startswith("weights"))
        return hashlib.sha256(repr(named).encode()).hexdigest()[:16] if named else ""


class VisionAccess(Protocol):
    """A vision encoder, open for adaptation.

    Tensors are PyTorch's, which this module does not import, hence ``Any``.  Images
    are preprocessed to *pictures*, opaque but for ``picture.layout``.  A layout says
    how the tokens of an image lie: ``tiles``, ``rows`` and ``columns`` of patches,
    ``extra`` class tokens that precede them, and for each tile the rectangle of the image
    that it shows (``layout.rectangles``, as fractions: left, top, right, bottom; beyond 0
    to 1 where an image is padded).  Hidden states of an image have the shape ``(tiles,
    extra + rows * columns, width)``, patches row by row.  Encoded images have ``features``
    ``(visual tokens, width of the language model)`` and a ``layout``.  Everything is
    differentiable.

    What :meth:`Vlm.vision` gives is shared with the model and frozen; :meth:`clone` gives
    weights of one's own.

    Attributes:
        layers: number of transformer layers.
        width: of the hidden states.
        angles: rotary angles per token, 0 where positions are learned.
        merge: side of the squares of patches that make a visual token, where tokens have a
            place in the image.
        windowed: layers whose attention stays within windows of the image.
        trainable: a module of PyTorch whose ``forward`` takes the arguments of
            :meth:`encode`, so that data parallelism synchronises; its parameters are those
            of :meth:`parameters`.
    """

    layers: int
    width: int
    angles: int
    merge: int
    windowed: Collection[int]

    @property
    def trainable(self) -> Any:
        """See the class."""
        ...

    def clone(self) -> VisionAccess:
        """Return an encoder with a copy of the weights, trainable and in float32.

        Raises:
            ConfigError: the weights are quantised, or spread over several devices.
        """
        ...

    def load(self, state: Mapping[str, Any]) -> None:
        """Put weights in place, by the names of :meth:`parameters`; for clones alone.

        Raises:
            ConfigError: this is no clone, a name is missing or unknown, or a shape is
                another; the first few are named, and no weight is changed.
        """
        ...

    def prepare(self, images: Sequence[Image], *, resolution: int | None = None) -> Sequence[Any]:
        """Return pictures of RGB images.

        Args:
            images: to be preprocessed.
            resolution: about so many pixels per image, as near as the family's rules allow;
                None for the model's default.  Encoders that know one size ignore it.

        Raises:
            ConfigError: *resolution* is not positive.
            ValueError: the family takes no image of such a shape.
        """
        ...

    def encode(
        self,
        pictures: Sequence[Any],
        *,
        embedding: Any = None,
        angles: Any = None,
        query: Any = None,
        film: Any = None,
        states: Sequence[Any] | None = None,
        checkpointing: bool = False,
    ) -> Sequence[Any]:
        """Return what enters the language model, per image.

        Args:
            pictures: of the images.
            embedding: condition per image ``(images, width)``, added to every token of
                the input of the first layer (behind learned positions).
            angles: condition per image ``(images, angles)``, added to the rotary
                angles of every token.  Attention depends on differences of angles, so
                this cancels; it is offered because published methods do it.
            query: condition per image ``(images, angles)`` or ``(images, layers, angles)``:
                the queries alone are turned by so much, in every layer.
            film: condition per image ``(images, layers, 2, 2, width)``: for the two norms of
                every layer a gain and a bias; the norm's output becomes
                ``out * (1 + gain) + bias``.
            states: added per image to the input of the first layer,
                ``(tiles, extra + rows * columns, width)``.
            checkpointing: compute layers again for gradients instead of keeping what
                they need, for a third more time and a fraction of the memory.

        Raises:
            ConfigError: *angles* or *query* where there are no rotary angles, or a shape
                is another.
        """
        ...

    def hidden_states(
        self,
        pictures: Sequence[Any],
        layers: Collection[int],
        *,
        embedding: Any = None,
        angles: Any = None,
        query: Any = None,
        film: Any = None,
        states: Sequence[Any] | None = None,
        checkpointing: bool = False,
    ) -> Mapping[int, Sequence[Any]]:
        """Return the input of each of *layers*, per image; the last number is the output.

        Raises:
            ConfigError: there is no such layer, or as :meth:`encode`.
        """
        ...

    def attention(
        self, pictures: Sequence[Any], layers: Collection[int]
    ) -> Mapping[int, Sequence[Any]]:
        """Return attention of *layers*, per image ``(tiles, heads, tokens, tokens)``."""
        ...

    def enter(
        self,
        layer: int,
        states: Sequence[Any],
        layouts: Sequence[Any],
        *,
        checkpointing: bool = False,
    ) -> Sequence[Any]:
        """Run the layers from *layer* on with *states* as its input; return as encode does.

        Raises:
            ConfigError: there is no such layer, a shape contradicts its layout, or the
                encoder takes no such grid.
        """
        ...

    def hidden_states_from(
        self,
        layer: int,
        states: Sequence[Any],
        layouts: Sequence[Any],
        layers: Collection[int],
        *,
        checkpointing: bool = False,
    ) -> Mapping[int, Sequence[Any]]:
        """Return what :meth:`hidden_states` does, entering at *layer* as :meth:`enter` does.

        Raises:
            ConfigError: as :meth:`enter`, or one of *layers* precedes *layer*.
        """
        ...

    def layout(self, size: tuple[int, int]) -> Any:
        """Return the layout that an image of *size* (width, height) gets at the default."""
        ...

    def parameters(self) -> Mapping[str, Any]:
        """Return the parameters of encoder and projector, by name."""
        ...


#: Encodes pictures, given how each was compressed; what an adaptor puts in the place of
#: :meth:`VisionAccess.encode`.  A picture is None where the adaptor takes no pixels.
VisionEncoder = Callable[[Sequence[Any], Sequence[Condition]], Sequence[Any]]


class Vlm(ABC):
    """A model.

    A run builds every VLM once to learn its provenance, before it knows whether
    there is anything to ask it, so weights are loaded at the first answer.
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

    def check_trainable(self) -> None:  # noqa: B027 - most can be trained
        """Make sure, before anything is loaded, that the vision encoder can be cloned and trained.

        Raises:
            ConfigError: its weights are to be quantised, or spread over several devices.
        """

    def with_encoder(self, encode: VisionEncoder) -> Vlm:
        """Return a VLM that shares the weights and whose images *encode* encodes.

        Args:
            encode: called with pictures and their conditions.

        Raises:
            NotImplementedError: the VLM gives no access to its vision encoder.
        """
        raise NotImplementedError(f"{type(self).__name__} gives no access to its vision encoder")
