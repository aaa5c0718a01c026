"""What every adaptor must do: the contract of :mod:`lossylens.adaptor` as tests."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from PIL import Image

from lossylens.adaptor import (
    Adaptor,
    AdaptorSpec,
    Needs,
    Trained,
    Trainer,
    Training,
    TrainingPicture,
    TrainingPoint,
)
from lossylens.codec import SOURCE, Codec, CodecPoint
from lossylens.errors import ConfigError, LossylensError
from lossylens.grid.config import read_square
from lossylens.images.pixels import squared
from lossylens.options.overrides import parse_pairs
from lossylens.options.resolving import resolve_options
from lossylens.registry.import_paths import import_object
from lossylens.spec import PluginSpec
from lossylens.testing.decoding_process import raised
from lossylens.testing.pictures import picture
from lossylens.testing.subject import PluginSubject, check, fail
from lossylens.testing.suite import ConformanceSuite
from lossylens.testing.vlm_conformance import QUESTIONS, ask, texts
from lossylens.vlm import Condition, ImageQuestions, Vlm, VlmIdentity

#: Behind which codec and level an adaptor is checked, unless it is said.
POINT = "jpeg/q5"

#: What most trainings call the options that make them short.
_SHORT = {"steps": 2, "batch": 2, "variants": 1, "workers": 0, "warmup": 0, "validate_every": 2}

#: Height and width of the pictures that are trained on.
_SIZE = (112, 112)


class AdaptorSubject(PluginSubject[AdaptorSpec]):
    """An adaptor under test.

    Args:
        name: of the adaptor.
        given: options, as in a configuration.
        vlm: name of the VLM that it is to adapt.
        vlm_options: of the VLM.
        points: codecs and levels, such as ``jpeg/q5``.
        codec_options: by codec, as in a configuration, ``square`` among them.
        naming: returns the options that name a checkpoint; nothing for the usual ones.
        training: options of the trainer; those that are not given make it two steps.  None for
            an adaptor that needs no training with these options.
        folder: for the training.
    """

    def __init__(
        self,
        name: str,
        given: Mapping[str, Any],
        *,
        vlm: str,
        vlm_options: Mapping[str, Any],
        points: Sequence[str],
        codec_options: Mapping[str, Mapping[str, Any]],
        naming: Callable[[Path], Mapping[str, Any]],
        training: Mapping[str, Any] | None,
        folder: Path,
    ) -> None:
        super().__init__("adaptor", name, given)
        self.vlm_name, self._vlm_options = vlm, dict(vlm_options)
        self._points, self._naming = points, naming
        given_codecs = {name: dict(each) for name, each in codec_options.items()}
        squares = {name: each.pop("square", None) for name, each in given_codecs.items()}
        self._codec_options: Mapping[str, Mapping[str, Any]] = given_codecs
        self._squares = {
            name: read_square(each, f"{name}.square") for name, each in squares.items() if each
        }
        self._training, self.folder = training, folder
        self.is_trained = bool(self.spec.trainer) and training is not None

    def skip_unless_it_can_run(self) -> None:
        """Skip where VLM or codec cannot run, or the adaptor lacks what no training makes."""
        found = self.registry.find("vlm", self.vlm_name)
        if self.registry.missing(found, self.registry.options(found, self._vlm_options)):
            pytest.skip(f"vlm {self.vlm_name!r} cannot run here; name another: --adaptor-vlm")
        for name in {each.partition("/")[0] for each in self._points}:
            codec = self.registry.find("codec", name)
            options = self.registry.options(codec, self._codec_options.get(name, {}))
            if self.registry.missing(codec, options):
                pytest.skip(f"codec {name!r} cannot run here; name another: --adaptor-point")
        if not self.is_trained:
            super().skip_unless_it_can_run()

    def check_built(self) -> None:
        """Build the VLM; the adaptor may need a checkpoint that is yet to be trained."""
        _ = self.vlm

    @cached_property
    def vlm(self) -> Vlm:
        """The VLM."""
        return self.registry.build_vlm(self.vlm_name, self._vlm_options)

    @cached_property
    def identity(self) -> VlmIdentity:
        """Who it is."""
        return VlmIdentity(self.vlm_name, self.vlm_name, dict(self.vlm.provenance()))

    @property
    def another(self) -> VlmIdentity:
        """A VLM of the same name whose weights are others."""
        return dataclasses.replace(self.identity, provenance={"weights": "of another"})

    @cached_property
    def pairs(self) -> list[tuple[CodecPoint, Codec]]:
        """The codecs behind which it is checked, each with its point."""
        found = []
        for each in self._points:
            name, _, level = each.partition("/")
            spec = self.registry.find("codec", name).spec
            codec = self._build_codec(name, level)
            point = CodecPoint(
                codec=spec.name,
                level=codec.level.name,
                label=spec.name,
                key=f"key of {each}",
                parameters=codec.level.parameters,
                provenance=codec.provenance(),
                space=codec.space,
                square=self._squares.get(name),
            )
            found.append((point, codec))
        return found

    @property
    def points(self) -> list[CodecPoint]:
        """Their points."""
        return [point for point, _ in self.pairs]

    def _build_codec(self, name: str, level: str) -> Codec:
        return self.registry.build_codec(name, level, self._codec_options.get(name, {}))

    def build(self, checkpoint: Path | None = None) -> Adaptor:
        """Return a new instance, with a checkpoint or as it is without."""
        named: Mapping[str, Any] = {}
        if checkpoint is not None:
            named = self._naming(checkpoint) or self._usual(checkpoint)
        return self.registry.build_adaptor(self.spec.name, {**self.given, **named})

    def _usual(self, checkpoint: Path) -> Mapping[str, Any]:
        """Return the option ``checkpoint``, or ``checkpoints`` where there is only that."""
        names = {field.name for field in dataclasses.fields(self.spec.options)}
        single = "checkpoint" in names or "checkpoints" not in names
        return {"checkpoint": checkpoint} if single else {"checkpoints": [checkpoint]}

    @cached_property
    def trained(self) -> Trained:
        """What two steps of training make."""
        return self.train(self.folder / "first")

    def train(self, folder: Path) -> Trained:
        """Train, or go on, in *folder*."""
        names = {field.name for field in dataclasses.fields(self.spec.training)}
        short = {name: value for name, value in _SHORT.items() if name in names}
        own = PluginSpec(name=self.spec.name, summary="", factory="", options=self.spec.training)
        options = resolve_options(own, {**short, **(self._training or {})}, "training")
        trainer: Trainer = import_object(self.spec.trainer)(options)
        pictures = [TrainingPicture(f"picture {n}", partial(_png, n)) for n in range(6)]
        points = [
            TrainingPoint(point, partial(self._build_codec, point.codec, codec.level.name))
            for point, codec in self.pairs
        ]
        training = Training(self.vlm, self.identity, points, pictures[:4], pictures[4:], 3, folder)
        try:
            return trainer.train(training)
        except Exception as error:
            fail(f"training for two steps raised {raised(error)}")

    @cached_property
    def adaptor(self) -> Adaptor:
        """An instance that serves the VLM: as it is, or with the checkpoint of two steps."""
        if not self.is_trained:
            return self.build()
        path = self.trained.checkpoint
        check(path.is_file(), f"the training says that its checkpoint is {path}, which is no file")
        return self.build(checkpoint=path)

    def shown(self, point: CodecPoint, seed: int = 0) -> tuple[Image.Image, Condition]:
        """Return a picture behind *point*, and its condition."""
        image = picture(*_SIZE, seed)
        size = image.size
        codec = next((codec for each, codec in self.pairs if each is point), None)
        if codec is None:
            return image, Condition(point, size)
        bitstream = codec.encode(squared(image, point.square) if point.square else image)
        latents = codec.latents(bitstream) if Needs.LATENTS in self.adaptor.needs else None
        wanted = bitstream if Needs.BITSTREAM in self.adaptor.needs else None
        return codec.decode(bitstream), Condition(point, size, wanted, latents)


def _png(seed: int) -> bytes:
    buffer = io.BytesIO()
    picture(*_SIZE, seed).save(buffer, "PNG")
    return buffer.getvalue()


class AdaptorConformance(ConformanceSuite):
    """The tests that every adaptor must pass.

    A module of tests derives a class from it, whose name starts with ``Test``.

    Attributes:
        adaptors: names of the adaptors; without any, those of the option ``--adaptor``.
        options: of the adaptors, as in a configuration.
        vlm: name of the VLM; without one, that of the option ``--adaptor-vlm``.
        vlm_options: of the VLM.
        points: codecs and levels; without any, those of the option ``--adaptor-point``.
        codec_options: of these codecs, by their names, and their ``square``, as in a
            configuration; without any, what ``--adaptor-codec-option`` says.
        training: options of the trainer, beside those that make it two steps; None where the
            options need no training.
    """

    kind: ClassVar[str] = "adaptor"
    adaptors: ClassVar[tuple[str, ...]] = ()
    vlm: ClassVar[str] = ""
    vlm_options: ClassVar[Mapping[str, Any]] = {}
    points: ClassVar[tuple[str, ...]] = ()
    codec_options: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    training: ClassVar[Mapping[str, Any] | None] = {}

    @classmethod
    def checkpoint_options(cls, path: Path) -> Mapping[str, Any]:
        """Return the options that name a checkpoint.

        By default the adaptor's ``checkpoint``, or a list where it has only ``checkpoints``.
        """
        return {}

    @classmethod
    def make_subject(
        cls, name: str, given: Mapping[str, Any], request: pytest.FixtureRequest
    ) -> AdaptorSubject:
        """Return the adaptor under test."""
        config = request.config
        points = cls.points or tuple(config.getoption("--adaptor-point")) or (POINT,)
        codec_options = cls.codec_options
        option = "--adaptor-codec-option"
        if not codec_options and (pairs := parse_pairs(config.getoption(option), option)):
            codec_options = {each.partition("/")[0]: pairs for each in points}
        return AdaptorSubject(
            name,
            given,
            vlm=cls.vlm or config.getoption("--adaptor-vlm"),
            vlm_options=cls.vlm_options,
            points=points,
            codec_options=codec_options,
            naming=cls.checkpoint_options,
            training=cls.training,
            folder=request.getfixturevalue("tmp_path_factory").mktemp("training"),
        )

    def test_it_says_what_it_serves(self, subject: AdaptorSubject) -> None:
        """In words and always the same, and something of what it was given."""
        adaptor, points = subject.adaptor, [SOURCE, *subject.points]
        reasons = [adaptor.fits(subject.identity, point) for point in points]
        for point, reason in zip(points, reasons, strict=True):
            check(isinstance(reason, str), f"fits {point.label}: {reason!r:.60} instead of a text")
            again = adaptor.fits(subject.identity, point)
            check(reason == again, f"fits {point.label}: {reason!r}, then {again!r}")
        pairs = zip(points, reasons, strict=True)
        served = [point for point, reason in pairs if not reason and point is not SOURCE]
        labels = ", ".join(f"{each.label} {each.level}" for each in points[1:])
        check(served, f"it serves none of {labels}: {reasons[-1]}")
        for point in served:
            seen = adaptor.is_seen(subject.identity, point)
            check(seen in (None, True, False), f"is_seen {point.label}: {seen!r:.60}")
            if subject.is_trained and seen is False:
                fail(f"is_seen says that the training had not {point.label}, which it had")
        remark = adaptor.remark(subject.identity)
        text = isinstance(remark, str) and not remark.endswith(".")
        check(text, f"the remark {remark!r:.60} must be a text without a full stop")
        check(adaptor.needs, "needs names neither pixels, bitstream nor latents")

    def test_provenance(self, subject: AdaptorSubject) -> None:
        """It is text, the same for every instance, and another for another checkpoint."""
        found = dict(subject.adaptor.provenance())
        for each in found.items():
            text = all(isinstance(part, str) and part for part in each)
            check(text, f"provenance has {each}, which must be two texts that are not empty")
        if not subject.is_trained:
            again = dict(subject.build().provenance())
        else:
            path = subject.trained.checkpoint
            again = dict(subject.build(checkpoint=path).provenance())
            changed = path.with_name(f"changed-{path.name}")
            content = bytearray(path.read_bytes())
            content[-1] ^= 1  # of safetensors the last weight
            changed.write_bytes(content)
            with contextlib.suppress(LossylensError):  # a format may notice it
                other = dict(subject.build(checkpoint=changed).provenance())
                check(
                    sorted(found.values()) != sorted(other.values()),
                    f"provenance of another checkpoint is the same: {found}",
                )
        check(again == found, f"provenance of a second instance: {again}, not {found}")

    def test_what_it_does_not_serve_is_left_alone(self, subject: AdaptorSubject) -> None:
        """An original image beside a compressed one comes as it is, unless it serves those."""
        adaptor = subject.adaptor
        if type(adaptor).picture is Adaptor.picture:
            pytest.skip("the adaptor leaves pictures as they are")
        if not adaptor.fits(subject.identity, SOURCE):
            pytest.skip("the adaptor serves uncompressed images too")
        image, condition = subject.shown(SOURCE)
        found = adaptor.picture(image, condition)
        check(
            found.tobytes() == image.tobytes(),
            "an uncompressed image, which it says not to serve, has become another",
        )

    def test_pictures(self, subject: AdaptorSubject) -> None:
        """What is shown is RGB, always the same, and the decoded image is left as it was."""
        adaptor = subject.adaptor
        if type(adaptor).picture is Adaptor.picture:
            pytest.skip("the adaptor leaves pictures as they are")
        for point in subject.points:
            if adaptor.fits(subject.identity, point):
                continue
            image, condition = subject.shown(point)
            before = image.tobytes()
            found: Any = adaptor.picture(image, condition)
            right = isinstance(found, Image.Image) and found.mode == "RGB"
            check(right, f"{point.label}: {found!r:.60} instead of an RGB image")
            again = adaptor.picture(image, condition)
            check(again.tobytes() == found.tobytes(), f"{point.label}: shown twice, two pictures")
            check(image.tobytes() == before, f"{point.label}: the decoded image was changed")

    def test_answers(self, subject: AdaptorSubject) -> None:
        """With its encoder in place the VLM answers, in a batch as alone, and is left as it was."""
        adaptor, vlm = subject.adaptor, subject.vlm
        if type(adaptor).encoder is Adaptor.encoder:
            pytest.skip("the adaptor leaves the vision encoder as it is")
        point = next(each for each in subject.points if not adaptor.fits(subject.identity, each))
        shown = [subject.shown(point, seed) for seed in range(2)]
        pixels = Needs.PIXELS in adaptor.needs
        items = [
            ImageQuestions((image if pixels else None,), QUESTIONS, (condition,))
            for image, condition in shown
        ]
        plain = [ImageQuestions((image,), QUESTIONS, (c,)) for image, c in shown]
        before = texts(ask(vlm, plain))
        encode = adaptor.encoder(vlm.vision)
        check(encode is not None, "encoder is overridden and returns None")
        assert encode is not None
        adapted = vlm.with_encoder(encode)
        found = texts(ask(adapted, items))
        for item, answers in zip(items, found, strict=True):
            [alone] = texts(ask(adapted, [item]))
            check(alone == answers, f"adapted: {answers} in a batch, alone {alone}")
        check(texts(ask(vlm, plain)) == before, "the VLM beside it answers otherwise now")

    def test_checkpoints_of_another_vlm(self, subject: AdaptorSubject) -> None:
        """What was trained for a VLM's encoder is refused where its weights are others."""
        adaptor = subject.adaptor
        if not subject.is_trained or type(adaptor).encoder is Adaptor.encoder:
            pytest.skip("the adaptor has no weights that belong to a VLM")
        reason = adaptor.fits(subject.another, subject.points[0])
        check(reason, "fits accepts a checkpoint that was trained for other weights of the VLM")

    def test_training_goes_on_where_it_was_left(self, subject: AdaptorSubject) -> None:
        """A finished training is not done again, and one of the same seed makes the same."""
        if not subject.is_trained:
            pytest.skip("the adaptor needs no training")
        content = subject.trained.checkpoint.read_bytes()
        again = subject.train(subject.folder / "first")
        same = again.checkpoint.read_bytes() == content
        check(same, "started again, a finished training has written another checkpoint")
        other = subject.train(subject.folder / "second")
        check(
            other.checkpoint.read_bytes() == content,
            "trained again with the same seed, another checkpoint came of it",
        )

    def test_a_folder_holds_one_training(self, subject: AdaptorSubject) -> None:
        """Another training is refused there."""
        if not subject.is_trained:
            pytest.skip("the adaptor needs no training")
        _ = subject.trained
        subject.identity = subject.another
        try:
            subject.train(subject.folder / "first")
        except ConfigError:
            return
        except pytest.fail.Exception as error:
            refused = "ConfigError" in str(error)
            check(refused, f"for another VLM, in a folder that holds a training: {error}")
        else:
            fail("a training for another VLM was accepted in a folder that holds one")
        finally:
            subject.identity = dataclasses.replace(
                subject.identity, provenance=dict(subject.vlm.provenance())
            )
