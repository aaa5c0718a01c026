"""VLMs that a plugin configures: checkpoint and options in, answers out."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
import transformers
from lossylens.errors import ConfigError, RequirementError
from lossylens.vlm import (
    Answer,
    Condition,
    ImageQuestions,
    Question,
    QuestionKind,
    VisionEncoder,
    Vlm,
    format_box,
)
from PIL.Image import Image
from safetensors import SafetensorError
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AutoConfig

from lossylens_toolkit.transformers_vlm import checkpoint
from lossylens_toolkit.transformers_vlm.engine import (
    Encoder,
    Engine,
    Prompts,
    Shown,
    Suffix,
    Written,
)
from lossylens_toolkit.transformers_vlm.family import Family, Part
from lossylens_toolkit.transformers_vlm.memory import MemoryBudget, free_memory
from lossylens_toolkit.transformers_vlm.placement import place, spread
from lossylens_toolkit.transformers_vlm.preprocessing import Pending, Preprocessing
from lossylens_toolkit.transformers_vlm.tower import VisionTower
from lossylens_toolkit.transformers_vlm.vision_inputs import PreparedImage
from lossylens_toolkit.transformers_vlm.vlm_options import VlmOptions

#: How many announced images are held before the oldest are forgotten.
_MOST_EXPECTED = 256


class TransformersVlm(Vlm):
    """A VLM over transformers; each architecture derives one class from it.

    The checkpoint is found and checked when the object is made, and loaded when it is
    first asked something.

    Raises:
        ConfigError: a device that does not exist here.
        RequirementError: no such checkpoint, a file of it is missing or damaged, or it
            is of another architecture.
    """

    #: ``model_type`` of the checkpoint's configuration.
    model_type: ClassVar[str]

    #: Its class in transformers.
    model_class: ClassVar[Any]

    #: What to do about a checkpoint of another architecture.
    other_model_hint: ClassVar[str] = ""

    def __init__(self, options: VlmOptions) -> None:
        self.options = options
        self.placement = place(options)
        self.folder = checkpoint.find(options.checkpoint)
        self._files = self.weight_files()
        found = checkpoint.model_type(self.folder)
        if found != self.model_type:
            reason = f"{self.folder} is a model of type {found!r}, not {self.model_type!r}"
            raise RequirementError(f"{reason}{self.other_model_hint}")
        gpu = self.placement.devices[0].type == "cuda"
        self.batch_images = options.batch_images or (32 if gpu else 16)
        self._loaded: _Loaded | None = None
        self._encode: Encoder | None = None

    @abstractmethod
    def load(self) -> Family:
        """Load the checkpoint; :meth:`pretrained` does most of it."""

    def weight_files(self) -> list[Path]:
        """Return the files of the weights, checked for being there and whole.

        Raises:
            RequirementError: they are not.
        """
        return checkpoint.weight_files(self.folder)

    def pretrained(self) -> Any:
        """Return the model with the checkpoint's weights.

        Raises:
            RequirementError: the memory does not suffice, or a weight is missing.
        """
        parameters = checkpoint.parameters(self._files)
        self.placement.check_memory(str(self.folder), parameters)
        device_map = self._device_map()
        # Its bars would run into the progress bars of a run.
        transformers.utils.logging.disable_progress_bar()
        try:
            model, notes = self.model_class.from_pretrained(
                self.folder,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                device_map=device_map,
                **self.placement.loading,
            )
        except SafetensorError as error:
            raise RequirementError(f"the weights in {self.folder} are damaged: {error}") from error
        if notes["missing_keys"]:
            some = ", ".join(sorted(notes["missing_keys"])[:3])
            raise RequirementError(f"the weights in {self.folder} lack {some}")
        if device_map is None:
            model.to(self.placement.devices[0])
        return model.eval().requires_grad_(False)

    def model_config(self) -> Any:
        """Return the configuration with which the class in transformers makes the model."""
        return AutoConfig.from_pretrained(
            self.folder, local_files_only=True, trust_remote_code=False
        )

    def _device_map(self) -> Any:
        devices = self.placement.devices
        if len(devices) > 1:
            with torch.device("meta"):
                model = self.model_class(self.model_config())
            return spread(model, {n: free_memory(device) for n, device in enumerate(devices)})
        return {"": devices[0]} if self.placement.quantization != "none" else None

    def part(self, loader: Any) -> Any:
        """Return a tokenizer or image processor of the checkpoint.

        Raises:
            RequirementError: its files cannot be read.
        """
        return checkpoint.read_part(self.folder, loader)

    def answer(self, batch: Sequence[ImageQuestions]) -> list[list[Answer]]:
        """Answer all questions of all images, in order; see :class:`Vlm`."""
        loaded = self._model()
        jobs, answers = loaded.jobs(batch)
        for job, given in zip(jobs, self._answers(loaded, jobs), strict=True):
            answers[job.item].update(zip(job.places, given, strict=True))
        return [
            [
                loaded.with_box(found[place_], question, item)
                for place_, question in enumerate(item.questions)
            ]
            for item, found in zip(batch, answers, strict=True)
        ]

    def expect(self, item: ImageQuestions) -> None:
        """Begin to preprocess images, if there are workers for it; see :class:`Vlm`."""
        if self._loaded is not None:
            self._loaded.expect(item)

    def _answers(self, loaded: _Loaded, jobs: Sequence[_Job]) -> Iterator[list[Answer]]:
        """Yield the answers of each job."""
        failures: dict[int, str] = {}

        def asked() -> Iterator[Prompts]:
            for number, job in enumerate(jobs):
                try:
                    shown = job.shown()
                except ValueError as error:
                    failures[number] = f"an image cannot be preprocessed: {error}"
                    continue
                yield Prompts(shown, job.texts, job.rows)

        with self._kernel():
            written = iter(list(Engine(loaded.family, self._encode, loaded.budget).answer(asked())))
        for number, job in enumerate(jobs):
            if number in failures:
                yield [Answer(None, failures[number])] * len(job.rows)
            else:
                yield [loaded.answer(each) for each in next(written)]

    def _kernel(self) -> AbstractContextManager[Any]:
        if self.options.attention == "math":
            return cast(AbstractContextManager[Any], sdpa_kernel(SDPBackend.MATH))
        return nullcontext()

    def _model(self) -> _Loaded:
        if self._loaded is None:
            family = self.load()
            workers = self.options.preprocess_workers
            if workers < 0:
                workers = 4 if self.placement.devices[0].type == "cuda" else 0
            self._loaded = _Loaded(family, Preprocessing(family.preprocess, workers))
        return self._loaded

    @property
    def family(self) -> Family:
        """The loaded model."""
        return self._model().family

    @property
    def vision(self) -> VisionTower:
        """The vision encoder; see :class:`lossylens.vlm.VisionAccess`."""
        return self.family.tower

    def check_trainable(self) -> None:
        """See :class:`Vlm`."""
        if self.placement.quantization != "none":
            raise ConfigError(
                f"quantization {self.placement.quantization}: quantised weights cannot be trained;"
                " set quantization: none"
            )
        if len(self.placement.devices) > 1:
            raise ConfigError(
                "weights that are spread over several devices cannot be trained; name one as device"
            )

    def with_encoder(self, encode: VisionEncoder) -> TransformersVlm:
        """Return a VLM of the same weights whose images *encode* encodes.

        Raises:
            ConfigError: an encoder is in place already; it would be dropped silently.
        """
        if self._encode is not None:
            raise ConfigError("an adaptor is in place already; a VLM takes one at a time")
        self._model()
        adapted = copy.copy(self)
        adapted._encode = encode
        return adapted

    def provenance(self) -> Mapping[str, str]:
        """Return hashes of the weights, versions, and how they are computed with."""
        hashes = checkpoint.fingerprint(self._files)
        return {
            **{f"weights {name}": value for name, value in hashes.items()},
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "image processor": "PIL",
            "attention": self.options.attention,
            **self.placement.describe(),
        }


class _Needed:
    """An image at a detail, for all the places of a batch where it is shown.

    The picture is made when it is first taken, and let go when it was taken for each.
    """

    def __init__(self, pending: Pending) -> None:
        self.uses = 0
        self._pending = pending
        self._picture: PreparedImage | None = None

    def take(self) -> PreparedImage:
        picture = self._picture or self._pending()
        self.uses -= 1
        self._picture = picture if self.uses else None
        return picture


@dataclass(frozen=True)
class _Job:
    """Questions that share a prefix and the detail of its images.

    Attributes:
        item: number of what they belong to in the batch.
        places: of the questions in it.
        images: in the order of the prompt; None for those without a picture.
        conditions: of the images.
        texts: token ids before each image.
        rows: the questions.
    """

    item: int
    places: tuple[int, ...]
    images: tuple[_Needed | None, ...]
    conditions: tuple[Condition, ...]
    texts: tuple[tuple[int, ...], ...]
    rows: tuple[Suffix, ...]

    def shown(self) -> tuple[Shown, ...]:
        """Return the preprocessed images.

        Raises:
            ValueError: one cannot be preprocessed.
        """
        pictures = [None if needed is None else needed.take() for needed in self.images]
        return tuple(map(Shown, pictures, self.conditions))


@dataclass
class _Asking:
    """Questions that share a prefix: their places, what follows it in each, and limits."""

    prefix: tuple[Part, ...]
    details: tuple[Hashable, ...]
    places: list[int] = field(default_factory=list)
    suffixes: list[tuple[tuple[Part, ...], int]] = field(default_factory=list)

    @property
    def images(self) -> list[int]:
        """Numbers of the images, in the order of the prompt."""
        return [part for part in self.prefix if isinstance(part, int)]


class _Loaded:
    """A loaded model with what belongs to it."""

    def __init__(self, family: Family, preprocessing: Preprocessing) -> None:
        self.family = family
        self.preprocessing = preprocessing
        self.budget = MemoryBudget(family)
        self._expected: dict[tuple[int, Hashable], tuple[Image, Pending]] = {}

    def _asked(self, item: ImageQuestions) -> tuple[list[_Asking], dict[int, Answer]]:
        """Return the questions about *item* by prefix, and why the others have none."""
        found: dict[tuple[tuple[Part, ...], Hashable], _Asking] = {}
        refused: dict[int, Answer] = {}
        count = len(item.images)
        for place_, question in enumerate(item.questions):
            try:
                prefix, suffix = self.family.prompt(question, count)
            except ValueError as error:
                refused[place_] = Answer(None, str(error))
                continue
            details = self.family.details(question, count)
            asking = found.setdefault((prefix, details), _Asking(prefix, details))
            asking.places.append(place_)
            limit = question.max_new_tokens or self.family.limit
            asking.suffixes.append((suffix, limit))
        return list(found.values()), refused

    def expect(self, item: ImageQuestions) -> None:
        """Begin to preprocess *item*, which will be asked about soon."""
        if not self.preprocessing.works_ahead:
            return
        for asking in self._asked(item)[0]:
            for number in asking.images:
                image, detail = item.images[number], asking.details[number]
                if image is not None and (id(image), detail) not in self._expected:
                    pending = self.preprocessing.submit(image, detail)
                    # The image is kept, so that no other can get its id meanwhile.
                    self._expected[id(image), detail] = (image, pending)
        while len(self._expected) > _MOST_EXPECTED:
            # Images that were announced and never asked about.
            self._expected.pop(next(iter(self._expected)), None)

    def _pending(self, image: Image, detail: Hashable) -> Pending:
        expected = self._expected.pop((id(image), detail), None)
        return self.preprocessing.submit(image, detail) if expected is None else expected[1]

    def jobs(self, batch: Sequence[ImageQuestions]) -> tuple[list[_Job], list[dict[int, Answer]]]:
        """Return the jobs of a batch, and per item the answers to what cannot be asked.

        Preprocessing begins for all of them.
        """
        needed: dict[tuple[int, Hashable], _Needed] = {}

        def need(image: Image | None, detail: Hashable) -> _Needed | None:
            if image is None:
                return None
            key = (id(image), detail)
            if key not in needed:
                needed[key] = _Needed(self._pending(image, detail))
            needed[key].uses += 1
            return needed[key]

        jobs, refused = [], []
        for number, item in enumerate(batch):
            askings, without = self._asked(item)
            refused.append(without)
            for asking in askings:
                job = _Job(
                    number,
                    tuple(asking.places),
                    tuple(need(item.images[n], asking.details[n]) for n in asking.images),
                    tuple(item.conditions[each] for each in asking.images),
                    tuple(self.family.texts(asking.prefix)[:-1]),
                    tuple(self._row(*suffix) for suffix in asking.suffixes),
                )
                jobs.append(job)
        return jobs, refused

    def _row(self, suffix: tuple[Part, ...], limit: int) -> Suffix:
        [ids] = self.family.texts(suffix)
        return Suffix(list(ids), limit)

    def with_box(self, answer: Answer, question: Question, item: ImageQuestions) -> Answer:
        """Return *answer*; where it is to be a box and holds one, that box of the last image."""
        if question.kind is not QuestionKind.BOX or answer.text is None:
            return answer
        detail = self.family.details(question, len(item.images))[-1]
        box = self.family.box(answer.text, item.conditions[-1].size, detail)
        return answer if box is None else replace(answer, text=format_box(box))

    def answer(self, written: Written) -> Answer:
        """Return what was written as text."""
        usage = {"input_tokens": written.prompt, "output_tokens": len(written.tokens)}
        if written.failure:
            return Answer(None, written.failure)
        text: Any = self.family.tokenizer.decode(written.tokens, skip_special_tokens=True)
        return Answer(text, usage=usage)
