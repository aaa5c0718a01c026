"""A vision encoder's layers on original and compressed images.

The measures are those of :mod:`lossylens_toolkit.layer_analysis.layer_metrics`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from lossylens.vlm import VisionAccess
from numpy.typing import NDArray
from PIL.Image import Image
from PIL.Image import new as new_image

from lossylens_toolkit.layer_analysis.layer_metrics import (
    AttentionFlow,
    attention_flow,
    principal_maps,
    similarities,
)

#: Bytes of attention that are asked for at once.
_ATTENTION = 2**30

#: Pixels of a patch's side where a map lies on the image.
PATCH = 8


@dataclass
class LayerCurve:
    """Measures by layer, means over images.

    Attributes:
        images: how many.
    """

    images: int = 0
    _sums: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    _counts: dict[str, NDArray[np.int64]] = field(default_factory=dict)

    def add(self, similarity: Sequence[float], flows: Sequence[AttentionFlow]) -> None:
        """Add one image."""
        self._add("similarity", similarity)
        measures = [flow.measures() for flow in flows]
        for name in measures[0]:
            self._add(name, [each[name] for each in measures])
        self.images += 1

    def mean(self, name: str) -> list[float]:
        """Return one measure by layer; NaN where no image has it.

        Args:
            name: ``similarity`` of the hidden states that enter each layer with those of the
                original, one value more for the output, or one of
                :meth:`.layer_metrics.AttentionFlow.measures`.
        """
        counts = self._counts[name]
        means = np.where(counts > 0, self._sums[name] / np.maximum(counts, 1), np.nan)
        return [float(value) for value in means]

    def _add(self, name: str, values: Sequence[float]) -> None:
        new = np.array(values, dtype=np.float64)
        known = np.isfinite(new)
        self._sums[name] = self._sums.get(name, np.zeros(len(new))) + np.where(known, new, 0)
        self._counts[name] = self._counts.get(name, np.zeros(len(new), np.int64)) + known


@dataclass(frozen=True)
class Maps:
    """Maps of one layer, ``(rows, tiles * columns)``, tiles side by side.

    Attributes:
        principal: colours, see :func:`.layer_metrics.principal_maps`.
        similarity: cosine of each token of the layer's output with the original's.
        received: attention that each patch is given; see
            :class:`.layer_metrics.AttentionFlow`.
        inflow, outflow: distance of each patch to where it is anchored, in diagonals; NaN
            for those that are anchored at a class token.
    """

    principal: NDArray[np.uint8]
    similarity: NDArray[np.float32]
    received: NDArray[np.float32]
    inflow: NDArray[np.float32]
    outflow: NDArray[np.float32]


def chosen_layers(layers: int, count: int) -> list[int]:
    """Return *count* layers from the first to the last, evenly spaced."""
    return sorted({round(place) for place in np.linspace(0, layers - 1, count)})


def measure_layers(
    vision: VisionAccess,
    original: Image,
    decoded: Mapping[str, Image],
    curves: Mapping[str, LayerCurve],
    mapped: Collection[int] = (),
) -> dict[int, dict[str, Maps]]:
    """Measure all layers on one image.

    Args:
        vision: of a VLM.
        original: the image as it is.
        decoded: compressed ones of the same size, by label.
        curves: for ``""``, which stands for the original, and each label; the measures
            are added to them.
        mapped: layers of which maps are wanted.

    Returns:
        Maps by layer and label.
    """
    reference, layout = _states(vision, original)
    outputs: dict[str, dict[int, NDArray[np.float32]]] = {}
    flows: dict[str, list[AttentionFlow]] = {}
    for label, image in {"": original, **decoded}.items():
        states = _states(vision, image)[0] if label else reference
        flows[label] = list(_flows(vision, image))
        pairs = zip(reference, states, strict=True)
        curves[label].add([float(similarities(*pair).mean()) for pair in pairs], flows[label])
        # What a layer makes; the input of the first knows no neighbours yet.
        outputs[label] = {layer: states[layer + 1] for layer in mapped}
    return {layer: _maps(layer, outputs, flows, layout) for layer in mapped}


def shown_tiles(vision: VisionAccess, image: Image) -> Image:
    """Return what the tiles of a map show of an image, side by side.

    Each patch has :data:`PATCH` pixels a side.
    """
    layout = vision.prepare([image])[0].layout
    size = (layout.columns * PATCH, layout.rows * PATCH)
    shown = new_image("RGB", (layout.tiles * size[0], size[1]))
    for number, (left, top, right, bottom) in enumerate(layout.rectangles):
        sides = (left * image.width, top * image.height, right * image.width, bottom * image.height)
        # What lies beyond the image, where the model pads it, is black.
        tile = image.crop(tuple(round(side) for side in sides)).resize(size)
        shown.paste(tile, (number * size[0], 0))
    return shown


def _states(vision: VisionAccess, image: Image) -> tuple[list[NDArray[np.float32]], Any]:
    """Return the input of each layer and the output, and the layout of the tokens."""
    with torch.inference_mode():
        pictures = vision.prepare([image])
        layout = pictures[0].layout
        found = vision.hidden_states(pictures, range(vision.layers + 1))
    return [_patches(found[layer][0], layout) for layer in range(vision.layers + 1)], layout


def _patches(states: Any, layout: Any) -> NDArray[np.float32]:
    """Return hidden states ``(tiles * patches, width)``, without class tokens."""
    values: NDArray[np.float32] = states.float().cpu().numpy()
    return values[:, layout.extra :].reshape(-1, values.shape[-1])


def _flows(vision: VisionAccess, image: Image) -> Iterator[AttentionFlow]:
    """Yield the flow of each layer, asking for as many at once as the memory holds."""
    pictures = vision.prepare([image])
    layout = pictures[0].layout
    layer, at_once = 0, 1
    while layer < vision.layers:
        wanted = range(layer, min(layer + at_once, vision.layers))
        with torch.inference_mode():
            attention = vision.attention(pictures, wanted)
        for number in wanted:
            weights = attention[number][0].float().cpu().numpy()
            at_once = max(1, _ATTENTION // weights.nbytes)
            yield attention_flow(weights, layout.rows, layout.columns)
        layer = wanted.stop


def _maps(
    layer: int,
    outputs: Mapping[str, Mapping[int, NDArray[np.float32]]],
    flows: Mapping[str, Sequence[AttentionFlow]],
    layout: Any,
) -> dict[str, Maps]:
    labels = [label for label in outputs if label]
    colours = principal_maps(outputs[""][layer], [outputs[label][layer] for label in labels])
    shape = (layout.tiles, layout.rows, layout.columns)
    return {
        label: Maps(
            _side_by_side(colour.reshape(*shape, 3)),
            _side_by_side(similarities(outputs[""][layer], outputs[label][layer]).reshape(shape)),
            _side_by_side(flows[label][layer].received),
            _side_by_side(flows[label][layer].inflow.distances),
            _side_by_side(flows[label][layer].outflow.distances),
        )
        for label, colour in zip(["", *labels], colours, strict=True)
    }


def _side_by_side(tiles: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate(list(tiles), axis=1)
