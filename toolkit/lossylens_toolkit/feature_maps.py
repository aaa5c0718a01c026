"""Where on a picture compression changes what the language model is given, and adaptors mend it.

What enters the language model for the original image is what it should be for the compressed
one.  The error of a visual token is the squared distance from that, averaged over its
numbers and divided by the variance of the original's; it is drawn on the place of the image
that the token stands for, before (the VLM as it is) and after (with an adaptor).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import product
from typing import Any

import numpy as np
import torch
from lossylens.codec import bits_per_pixel
from lossylens.errors import LossylensError
from lossylens.grid.config import Config
from lossylens.grid.plan import CodecLevel, Model, make_plan
from lossylens.images.pixels import decoded_image, source_image, squared
from lossylens.run.progress import progress
from lossylens.store.records import NO_ADAPTOR
from lossylens.task import ImageRef
from lossylens.vlm import Condition, VisionAccess
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lossylens_toolkit.drawn_maps import FOLDER, INDEX, FeatureMap
from lossylens_toolkit.layer_analysis.layer_study import chosen_vlm, first_images, vision_of

Array = NDArray[np.float32]

#: Longest side of a map, in pixels, and the colours of its file.
_SIDE, _COLOURS = 256, 96

#: Share of the tokens whose error is below the top of the scale.
_TOP = 98

#: How much of a map is the picture, and not the error.
_PICTURE = 0.35


def map_features(
    config: Config,
    vlm: str,
    *,
    images: int = 3,
    adaptors: Sequence[str] = (),
) -> list[FeatureMap]:
    """Draw maps of feature error into the run folder, for its report.

    They are drawn at the first level of each codec, at which compression costs most.

    Args:
        config: of a run: its codecs, tasks, whose first images are taken in turn, and adaptors.
        vlm: label of one of its VLMs.
        images: how many are drawn.
        adaptors: labels of those that are drawn; none for all.

    Returns:
        What was drawn, in order.

    Raises:
        ConfigError: the configuration has no such VLM.
        LossylensError: the VLM gives no access to its vision encoder, or its visual tokens
            belong to no place of the image; an image cannot be read or coded.
    """
    choice = chosen_vlm(config, vlm)
    plan = make_plan(config)
    models = [
        model
        for model in plan.models
        if model.choice.label == choice.label
        and (not model.adaptor or not adaptors or model.adaptor_label in adaptors)
    ]
    points = [levels[0] for levels in plan.curves if levels[0].encodes]
    drawing = _Drawing(config, vision_of(config, choice), models)
    folder = config.run.out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    found: list[FeatureMap] = []
    pictures = list(first_images(config, images))
    with progress("Drawing maps", len(pictures) * len(points), "pictures") as step:
        for (name, reference), point in product(pictures, points):
            fitting = [model for model in models if any(True for _ in plan.cells_of(model, point))]
            for drawn, each in drawing.draw(name, reference, point, fitting):
                drawn.save(folder / each.file, optimize=True)
                found.append(each)
            step.advance()
    index = folder / INDEX
    temporary = index.with_suffix(".tmp")
    temporary.write_text(json.dumps([asdict(each) for each in found], indent=1), encoding="utf-8")
    temporary.replace(index)
    return found


class _Drawing:
    """Encoders of a VLM, as it is and with adaptors."""

    def __init__(self, config: Config, vision: VisionAccess, models: Sequence[Model]) -> None:
        self._config, self._vision = config, vision
        self._encoders: dict[str, Any] = {}
        for model in models:
            if model.adaptor:
                self._encoders[model.adaptor_label] = model.adaptor.light.encoder(vision)

    def draw(
        self, name: str, reference: ImageRef, point: CodecLevel, models: Sequence[Model]
    ) -> Iterator[tuple[Image.Image, FeatureMap]]:
        """Yield the map of each model, all on one scale."""
        parity = self._config.run.evaluator_parity
        source, square = source_image(reference.read(), parity=parity), point.point.square
        original = source if square is None else squared(source, square)
        codec = self._config.registry.build_codec(
            point.choice.spec.name, point.level, point.choice.options
        )
        bitstream = codec.encode(original.copy())
        decoded = decoded_image(codec, bitstream, original.size, parity=parity)
        latents = codec.latents(bitstream) if codec.space else None
        condition = Condition(point.point, source.size, bitstream, latents)
        with torch.inference_mode():
            [wanted] = self._vision.encode(self._vision.prepare([original]))
            errors = {
                model.adaptor_label: self._error(model, decoded, condition, wanted)
                for model in models
            }
        scale = float(np.percentile(errors[NO_ADAPTOR], _TOP)) if NO_ADAPTOR in errors else 0.0
        scale = scale or max(float(each.max()) for each in errors.values()) or 1.0
        for label, error in errors.items():
            canvas = on_picture(error, wanted.layout, original.size)
            labels = (name, point.choice.label, point.level.name, label)
            yield (
                _overlaid(decoded, np.clip(canvas / scale, 0, 1)),
                FeatureMap(
                    image=name,
                    codec=point.choice.label,
                    level=point.level.name,
                    adaptor="" if label == NO_ADAPTOR else label,
                    error=float(error.mean()),
                    bpp=bits_per_pixel(len(bitstream), *source.size),
                    file=re.sub(r"[^\w.-]+", "_", "-".join(labels)) + ".png",
                ),
            )

    def _error(
        self, model: Model, decoded: Image.Image, condition: Condition, wanted: Any
    ) -> Array:
        shown = decoded
        encoder = self._encoders.get(model.adaptor_label)
        if model.adaptor:
            shown = model.adaptor.light.picture(decoded.copy(), condition)
        pictures = self._vision.prepare([shown])
        found = encoder(pictures, [condition]) if encoder else self._vision.encode(pictures)
        return token_errors(found[0].features, wanted.features, wanted.layout, self._vision.merge)


def token_errors(found: Tensor, wanted: Tensor, layout: Any, merge: int) -> Array:
    """Return the relative error of each visual token, ``(tiles, rows, columns)``.

    Args:
        found, wanted: features ``(visual tokens, width)``.
        layout: of the patches; see :class:`~lossylens.vlm.VisionAccess`.
        merge: side of the squares of patches that make a token.

    Raises:
        LossylensError: the tokens are no such squares, so that they have no place.
    """
    shape = (layout.tiles, layout.rows // merge, layout.columns // merge)
    if len(wanted) != np.prod(shape) or found.shape != wanted.shape:
        raise LossylensError(
            "maps of features: the visual tokens of this VLM belong to no place of the image"
        )
    error = (found.float() - wanted.float()).square().mean(-1) / wanted.float().var()
    values: Array = error.reshape(shape).cpu().numpy()
    return values


def on_picture(values: Array, layout: Any, size: tuple[int, int]) -> Array:
    """Return values ``(tiles, rows, columns)`` where they lie on a picture, ``(height, width)``.

    Args:
        values: of the tokens.
        layout: says which part of the image each tile shows.
        size: width and height of the image, whose proportions the result has.
    """
    share = min(1.0, _SIDE / max(size))
    width, height = (max(1, round(share * side)) for side in size)
    sums, counts = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
    x, y = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
    for tile, (left, top, right, bottom) in zip(values, layout.rectangles, strict=True):
        rows = np.floor((y - top) / (bottom - top) * tile.shape[0]).astype(int)
        columns = np.floor((x - left) / (right - left) * tile.shape[1]).astype(int)
        inside_rows = np.flatnonzero((rows >= 0) & (rows < tile.shape[0]))
        inside_columns = np.flatnonzero((columns >= 0) & (columns < tile.shape[1]))
        place = np.ix_(inside_rows, inside_columns)
        sums[place] += tile[np.ix_(rows[inside_rows], columns[inside_columns])]
        counts[place] += 1
    return sums / np.maximum(counts, 1)


def _overlaid(picture: Image.Image, error: Array) -> Image.Image:
    """Return a grey *picture* under *error*, 0 to 1, from black over red to yellow."""
    height, width = error.shape
    grey = picture.convert("L").resize((width, height), Image.Resampling.BOX)
    light = np.asarray(grey, np.float32)[..., None] / 255
    heat = np.stack([np.clip(2 * error, 0, 1), np.clip(2 * error - 1, 0, 1), 0 * error], -1)
    mixed = _PICTURE * light + (1 - _PICTURE) * heat
    return Image.fromarray((255 * mixed).astype(np.uint8)).quantize(_COLOURS)


def told(maps: Sequence[FeatureMap]) -> list[tuple[str, ...]]:
    """Return rows of codec, level, adaptor and mean error over the images, for a table."""
    groups: dict[tuple[str, str, str], list[float]] = {}
    for each in maps:
        groups.setdefault((each.codec, each.level, each.adaptor or NO_ADAPTOR), []).append(
            each.error
        )
    return [(*key, f"{np.mean(values):.4f}") for key, values in groups.items()]
