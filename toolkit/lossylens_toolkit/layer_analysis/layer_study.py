"""``lossylens analyze layers``: what a vision encoder's layers make of compressed images."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from lossylens.codec import bits_per_pixel
from lossylens.errors import ConfigError, LossylensError, RequirementError
from lossylens.failure import Failure, attempt
from lossylens.grid.config import Choice, Config
from lossylens.images.pixels import decoded_image, source_image
from lossylens.names import canonical, suggestion
from lossylens.registry.import_paths import import_object
from lossylens.run.progress import progress
from lossylens.task import ImageRef
from lossylens.vlm import VisionAccess, VlmSpec
from PIL.Image import Image

from lossylens_toolkit.layer_analysis.stages import Stages, find_stages

if TYPE_CHECKING:
    from lossylens.codec import Codec

    from lossylens_toolkit.layer_analysis.layer_curves import LayerCurve, Maps

#: Images that are measured where nothing else is said, as in the paper, and the seconds after
#: which a model that is slow has had enough of them.
IMAGES, _PATIENCE = 100, 300.0

#: Fewer are measured only where the tasks have no more.
_FEWEST = 8


@dataclass(frozen=True)
class Compressed:
    """One codec and level.

    Attributes:
        codec, level: labels.
        bpp: mean over the images.
        curve: measures by layer; see :class:`.layer_curves.LayerCurve`.
    """

    codec: str
    level: str
    bpp: float
    curve: LayerCurve


@dataclass(frozen=True)
class ImageMaps:
    """Maps of one image.

    Attributes:
        name: of the image in its task.
        original: the image.
        tiles: what the maps show of it, see :func:`.layer_curves.shown_tiles`.
        maps: by layer and label, ``""`` for the original, else codec and level.
    """

    name: str
    original: Image
    tiles: Image
    maps: Mapping[int, Mapping[str, Maps]]


@dataclass(frozen=True)
class LayerAnalysis:
    """All that the page shows.

    Attributes:
        vlm: label.
        layers: of its vision encoder.
        windowed: those whose attention stays within windows.
        class_token: whether the encoder has one.
        stages: of the layers; None where they are not told, because too few see the whole
            image.
        wanted: images that there were to measure.
        original: measures on the images as they are.
        compressed: in the order of the configuration.
        images: those with maps.
        failures: images that were left out, with the reason.
    """

    vlm: str
    layers: int
    windowed: tuple[int, ...]
    class_token: bool
    stages: Stages | None
    wanted: int
    original: LayerCurve
    compressed: tuple[Compressed, ...]
    images: tuple[ImageMaps, ...]
    failures: tuple[str, ...]


def analyse_layers(
    config: Config, vlm: str, *, images: int | None = None, mapped: int = 2, map_layers: int = 6
) -> LayerAnalysis:
    """Measure every layer of a vision encoder on original and compressed images.

    Args:
        config: of a run: its codecs with their levels, its tasks, whose first images are
            taken in turn, and its VLMs.
        vlm: label of one of them.
        images: how many are measured; None for :data:`IMAGES`, or as many as five minutes
            suffice for.
        mapped: of how many maps are made.
        map_layers: of how many layers, evenly spaced.

    Raises:
        ConfigError: the configuration has no such VLM, or no codec that compresses.
        LossylensError: the VLM gives no access to its vision encoder, or no image
            could be measured.
    """
    choice = chosen_vlm(config, vlm)
    codecs = {f"{each.codec} {each.level}": each for each in _coders(config)}
    if not codecs:
        raise ConfigError("codecs: name at least one that compresses, such as jpeg:")
    pictures = list(first_images(config, images or IMAGES))
    vision = vision_of(config, choice)
    measuring = _Measuring(vision, codecs, mapped, map_layers)
    start = time.monotonic()
    with progress("Measuring layers", len(pictures), "images") as step:
        for number, (name, reference) in enumerate(pictures):
            slow = time.monotonic() - start > _PATIENCE
            if images is None and number >= _FEWEST and slow:
                break
            compress = partial(_compress, codecs=codecs, parity=config.run.evaluator_parity)
            made = attempt(compress, reference)
            if isinstance(made, Failure):
                measuring.failures.append(f"{name}: {made.reason}")
            else:
                measuring.add(name, made)
            step.advance()
    curves = measuring.curves
    if not curves[""].images:
        raise LossylensError(f"no image could be measured; the first: {measuring.failures[0]}")
    return LayerAnalysis(
        choice.label,
        vision.layers,
        tuple(sorted(vision.windowed)),
        measuring.class_token,
        _stages(curves[""], vision),
        len(pictures),
        curves[""],
        tuple(
            Compressed(each.codec, each.level, fmean(measuring.rates[label]), curves[label])
            for label, each in codecs.items()
        ),
        tuple(measuring.images),
        tuple(measuring.failures),
    )


@dataclass(frozen=True)
class _Versions:
    """An image as it is, and by label what a VLM is given of it and its rate in bpp."""

    original: Image
    decoded: Mapping[str, Image]
    rates: Mapping[str, float]


class _Measuring:
    """What has been measured so far, by label."""

    def __init__(
        self, vision: VisionAccess, labels: Iterable[str], mapped: int, map_layers: int
    ) -> None:
        # It imports torch, as a VLM with a vision encoder has done.
        from lossylens_toolkit.layer_analysis.layer_curves import LayerCurve, chosen_layers

        self.curves = {label: LayerCurve() for label in ("", *labels)}
        self.rates: dict[str, list[float]] = {label: [] for label in labels}
        self.images: list[ImageMaps] = []
        self.failures: list[str] = []
        self.class_token = False
        self._vision, self._mapped = vision, mapped
        self._layers = chosen_layers(vision.layers, map_layers)

    def add(self, name: str, versions: _Versions) -> None:
        """Measure one image."""
        from lossylens_toolkit.layer_analysis.layer_curves import measure_layers, shown_tiles

        self.class_token = self._vision.layout(versions.original.size).extra > 0
        layers = self._layers if len(self.images) < self._mapped else ()
        maps = measure_layers(
            self._vision, versions.original, versions.decoded, self.curves, layers
        )
        for label, rate in versions.rates.items():
            self.rates[label].append(rate)
        if layers:
            tiles = shown_tiles(self._vision, versions.original)
            self.images.append(ImageMaps(name, versions.original, tiles, maps))


def _stages(curve: LayerCurve, vision: VisionAccess) -> Stages | None:
    """Return the stages of an encoder; None if windows bound what its layers see."""
    if vision.windowed:
        return None
    return find_stages(curve.mean("distance"), curve.mean("inflow_targets"))


@dataclass(frozen=True)
class _Coder:
    """A codec at one level, with their labels."""

    codec: str
    level: str
    implementation: Codec


def _coders(config: Config) -> Iterator[_Coder]:
    """Yield every codec and level that compresses.

    Raises:
        ConfigError: one codes squares.
    """
    for choice in config.codecs:
        if choice.square is not None:
            raise ConfigError(f"{choice.where}.square: layers are measured on whole pictures alone")
        for level in choice.levels:
            if choice.spec.nominal_bpp is None:
                codec = config.registry.build_codec(choice.spec.name, level, choice.options)
                yield _Coder(choice.label, level.name, codec)


def chosen_vlm(config: Config, name: str) -> Choice[VlmSpec]:
    """Return the VLM of a configuration that is called *name*.

    Raises:
        ConfigError: there is none.
    """
    for choice in config.vlms:
        if canonical(name) in (canonical(choice.label), canonical(choice.spec.name)):
            return choice
    labels = [choice.label for choice in config.vlms]
    raise ConfigError(f"vlms: the configuration has no {name!r}. {suggestion(name, labels)}")


def vision_of(config: Config, choice: Choice[VlmSpec]) -> VisionAccess:
    """Return the vision encoder of a VLM.

    Raises:
        LossylensError: the VLM gives no access to it.
    """
    vlm = config.registry.build_vlm(choice.spec.name, choice.options)
    try:
        return vlm.vision
    except NotImplementedError as error:
        raise LossylensError(
            f"{choice.where}: {choice.label} gives no access to its vision encoder;"
            " VLMs with open weights do"
        ) from error


def first_images(config: Config, count: int) -> Iterator[tuple[str, ImageRef]]:
    """Yield the first images of the tasks, one task after the other."""
    tasks = [
        (choice.label, iter(config.registry.build_task(choice.spec.name, choice.options).samples()))
        for choice in config.tasks
    ]
    seen: set[str] = set()
    while tasks and len(seen) < count:
        for task in list(tasks):
            images = (image for sample in task[1] for image in sample.images)
            fresh = next((each for each in images if _is_new(each, task[0], seen)), None)
            if fresh is None:
                tasks.remove(task)
            elif len(seen) <= count:
                yield f"{task[0]} {fresh.key}", fresh


def _is_new(reference: ImageRef, task: str, seen: set[str]) -> bool:
    """Take note of an image; return whether it was not seen before."""
    key = f"{task} {reference.key}"
    if key in seen:
        return False
    seen.add(key)
    return True


def _compress(reference: ImageRef, codecs: Mapping[str, _Coder], parity: bool) -> _Versions:
    original = source_image(reference.read(), parity=parity)
    decoded, rates = {}, {}
    for label, each in codecs.items():
        codec = each.implementation
        bitstream = codec.encode(original.copy())
        decoded[label] = decoded_image(codec, bitstream, original.size, parity=parity)
        rates[label] = bits_per_pixel(len(bitstream), *original.size)
    return _Versions(original, decoded, rates)


# Of the report, which need not be installed before there is something to show.
_PAGE = "lossylens_report.layer_page:render_layers"
_TABLE = "lossylens_report.layer_page:table"


def write_layers(analysis: LayerAnalysis, folder: Path) -> Path:
    """Write the page and a table of all curves; return the page.

    Raises:
        RequirementError: a package that reports need is not installed.
    """
    try:
        render_layers, table = import_object(_PAGE), import_object(_TABLE)
    except ModuleNotFoundError as error:
        raise RequirementError(
            f"the page needs {error.name}: pip install 'lossylens[report]', or"
            " ./plugins/reports/html in a clone of the repository"
        ) from error
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "layers.csv").write_text(table(analysis), encoding="utf-8")
    page = folder / "index.html"
    page.write_text(render_layers(analysis), encoding="utf-8")
    return page
