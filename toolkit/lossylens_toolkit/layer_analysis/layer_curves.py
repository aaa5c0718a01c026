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

from lossylens_toolkit.layer_analysis.layer_metrics import (
    AttentionFlow,
    attention_flow,
    principal_maps,
    token_similarity,
)

#: Bytes of attention that are asked for at once.
_ATTENTION = 2**30

#: Measures that attention gives, as attributes of :class:`.layer_metrics.AttentionFlow`.
FLOWS = ("distance", "most_attended", "mixing", "concentration")


@dataclass
class LayerCurve:
    """Measures by layer, means over images.

    Attributes:
        similarity: of the hidden states that enter each layer with those of the
            original; one value more, for the output.
        flows: values of each of :data:`FLOWS` by name.
        images: how many.
    """

    similarity: list[float] = field(default_factory=list)
    flows: dict[str, list[float]] = field(default_factory=dict)
    images: int = 0

    def add(self, similarity: Sequence[float], flows: Sequence[AttentionFlow]) -> None:
        """Add one image."""
        self.similarity = self._mean(self.similarity, similarity)
        for name in FLOWS:
            values = [getattr(each, name) for each in flows]
            self.flows[name] = self._mean(self.flows.get(name, []), values)
        self.images += 1

    def _mean(self, before: Sequence[float], values: Sequence[float]) -> list[float]:
        old = before or [0.0] * len(values)
        pairs = zip(old, values, strict=True)
        return [(self.images * one + other) / (self.images + 1) for one, other in pairs]


@dataclass(frozen=True)
class Maps:
    """Maps of one layer, ``(rows, tiles * columns)``, tiles side by side.

    Attributes:
        principal: colours, see :func:`.layer_metrics.principal_maps`.
        inflow, outflow: per token.
    """

    principal: NDArray[np.uint8]
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
        curves[label].add([token_similarity(*pair) for pair in pairs], flows[label])
        # What a layer makes; the input of the first knows no neighbours yet.
        outputs[label] = {layer: states[layer + 1] for layer in mapped}
    return {layer: _maps(layer, outputs, flows, layout) for layer in mapped}


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
            _side_by_side(flows[label][layer].inflow),
            _side_by_side(flows[label][layer].outflow),
        )
        for label, colour in zip(["", *labels], colours, strict=True)
    }


def _side_by_side(tiles: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate(list(tiles), axis=1)
