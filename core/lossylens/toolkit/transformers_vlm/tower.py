"""Vision encoders, open for adaptation.

A tower runs the encoder of a loaded model layer by layer, so that an adaptor can read
the hidden states and attention of any layer, add a condition, or enter at a layer with
hidden states of its own.  The engine encodes through the same code.  All methods are
differentiable; whoever needs no gradients calls them under ``torch.inference_mode``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor, nn

from lossylens.errors import ConfigError
from lossylens.toolkit.transformers_vlm.pictures import Layout, Picture, VisualTokens


@dataclass(frozen=True)
class Flow:
    """Hidden states on their way through a tower.

    Attributes:
        hidden: of all images, in the order and shape that the tower's layers take.
        layouts: of the images, in order.
        extra: what else the tower's layers need (rotary angles, windows).
    """

    hidden: Tensor
    layouts: tuple[Layout, ...]
    extra: Any = None


class VisionTower(ABC):
    """A vision encoder; see :class:`lossylens.vlm.VisionAccess` for the public methods.

    Attributes:
        module: the encoder itself, whose parameters adaptors train.
        projectors: what of the way to the language model is not in *module*, by name.
        preprocess: image and detail to :class:`Picture`.
        detail: at which :meth:`prepare` preprocesses.
        layers: number of transformer layers.
        width: of the hidden states.
        angles: rotary angles per token; 0 where positions are learned.
    """

    module: nn.Module
    projectors: Mapping[str, nn.Module] = MappingProxyType({})
    preprocess: Callable[[Image, Hashable], Picture]
    detail: Hashable = None
    layers: int
    width: int
    angles: int = 0

    # What a family implements.

    @abstractmethod
    def embed(self, pictures: Sequence[Picture]) -> Flow:
        """Return the input of the first layer, positions included where they are learned."""

    @abstractmethod
    def resume(self, states: Sequence[Tensor], layouts: Sequence[Layout]) -> Flow:
        """Return the flow that has *states*, shaped as :class:`Layout` says."""

    @abstractmethod
    def states(self, flow: Flow) -> list[Tensor]:
        """Return the hidden states per image, shaped as :class:`Layout` says."""

    @abstractmethod
    def layer(self, number: int, flow: Flow) -> Tensor:
        """Return the output of one layer, in the flow's order."""

    @abstractmethod
    def weights(self, number: int, flow: Flow) -> list[Tensor]:
        """Return one layer's attention per image: ``(tiles, heads, tokens, tokens)``."""

    @abstractmethod
    def project(self, flow: Flow) -> list[Tensor]:
        """Return, per image, what enters the language model: ``(visual tokens, D)``."""

    @abstractmethod
    def spread(self, vectors: Tensor, flow: Flow) -> Tensor:
        """Return *vectors*, one per image, for each token in the flow's order."""

    def rotate(self, angles: Tensor, flow: Flow) -> Flow:
        """Return *flow* with *angles* ``(images, angles)`` added to its rotary angles."""
        raise ConfigError(
            f"{type(self).__name__} has learned positions and no rotary angles; "
            "add the condition to the embedding"
        )

    # What adaptors and the engine call.

    def encode(
        self,
        pictures: Sequence[Picture],
        *,
        embedding: Tensor | None = None,
        angles: Tensor | None = None,
    ) -> list[VisualTokens]:
        """Encode images to what enters the language model.

        Args:
            pictures: preprocessed images.
            embedding: condition per image ``(images, width)``, added to every token
                after patch embedding (and learned positions).
            angles: condition per image ``(images, angles)``, added to the rotary angles
                of every token.  Attention depends on differences of angles alone, so a
                vector that all tokens of an image share cancels: this is where the
                conditional vision encoder of the paper adds it, and it has no effect.

        Raises:
            ConfigError: *angles* where the encoder has none.
        """
        flow = self._conditioned(self.embed(pictures), embedding, angles)
        return self._finish(self._run(flow, 0))

    def hidden_states(
        self,
        pictures: Sequence[Picture],
        layers: Collection[int],
        *,
        embedding: Tensor | None = None,
        angles: Tensor | None = None,
    ) -> Mapping[int, list[Tensor]]:
        """Return the input of each of *layers*, per image; ``layers`` itself is the output.

        Each has the shape ``(tiles, tokens, width)``; nothing behind the last of
        *layers* is computed.
        """
        flow = self._conditioned(self.embed(pictures), embedding, angles)
        found = {}
        for number in range(max(layers, default=-1) + 1):
            if number in layers:
                found[number] = self.states(flow)
            if number < max(layers):
                flow = replace(flow, hidden=self.layer(number, flow))
        return found

    def attention(
        self, pictures: Sequence[Picture], layers: Collection[int]
    ) -> Mapping[int, list[Tensor]]:
        """Return the attention weights of each of *layers*, per image.

        Each has the shape ``(tiles, heads, tokens, tokens)``, queries before keys, and
        is zero between tokens of different windows.
        """
        flow = self.embed(pictures)
        found = {}
        for number in range(max(layers, default=-1) + 1):
            if number in layers:
                found[number] = self.weights(number, flow)
            flow = replace(flow, hidden=self.layer(number, flow))
        return found

    def enter(
        self, layer: int, states: Sequence[Tensor], layouts: Sequence[Layout]
    ) -> list[VisualTokens]:
        """Run the layers from *layer* on, given its input.

        Args:
            layer: first layer to run, counted from 0; ``layers`` runs the projector only.
            states: per image ``(tiles, tokens, width)``, as :meth:`hidden_states` gives.
            layouts: of the images.

        Raises:
            ConfigError: there is no such layer, or a shape contradicts its layout.
        """
        if not 0 <= layer <= self.layers:
            raise ConfigError(f"the vision encoder has no layer {layer}; it has {self.layers}")
        for number, (state, layout) in enumerate(zip(states, layouts, strict=True)):
            expected = (layout.tiles, layout.tokens, self.width)
            if tuple(state.shape) != expected:
                shape = tuple(state.shape)
                raise ConfigError(f"hidden states of image {number} are {shape}, not {expected}")
        return self._finish(self._run(self.resume(states, layouts), layer))

    def parameters(self) -> Mapping[str, nn.Parameter]:
        """Return the encoder's parameters, projector included, by name."""
        parameters = dict(self.module.named_parameters())
        for name, module in self.projectors.items():
            parameters.update(module.named_parameters(prefix=name))
        return parameters

    @property
    def device(self) -> torch.device:
        """Where the encoder is."""
        return next(self.module.parameters()).device

    def prepare(self, images: Sequence[Image]) -> list[Picture]:
        """Preprocess RGB images, at the model's default detail."""
        return [self.preprocess(image, self.detail) for image in images]

    def _conditioned(self, flow: Flow, embedding: Tensor | None, angles: Tensor | None) -> Flow:
        if embedding is not None:
            added = self.spread(embedding, flow).to(flow.hidden.dtype)
            flow = replace(flow, hidden=flow.hidden + added)
        return flow if angles is None else self.rotate(angles, flow)

    def _run(self, flow: Flow, first: int) -> Flow:
        for number in range(first, self.layers):
            flow = replace(flow, hidden=self.layer(number, flow))
        return flow

    def _finish(self, flow: Flow) -> list[VisualTokens]:
        features = self.project(flow)
        return [
            VisualTokens(feature, layout)
            for feature, layout in zip(features, flow.layouts, strict=True)
        ]


class TiledTower(VisionTower):
    """A plain ViT: every tile attends to itself, positions are learned.

    Hidden states are ``(tiles of all images, tokens, width)``.
    """

    @abstractmethod
    def first(self, pixels: Tensor) -> Tensor:
        """Return patch embedding and positions of ``(tiles, 3, height, width)``."""

    @abstractmethod
    def block(self, number: int, hidden: Tensor) -> Tensor:
        """Return the output of one layer."""

    @abstractmethod
    def query_key(self, number: int, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return query and key of one layer, ``(tiles, heads, tokens, head width)``."""

    @abstractmethod
    def last(self, hidden: Tensor) -> Tensor:
        """Return the projected visual tokens ``(tiles, visual tokens of a tile, D)``."""

    def embed(self, pictures: Sequence[Picture]) -> Flow:
        """Return patch embeddings with positions."""
        pixels = torch.cat([picture.pixels for picture in pictures])
        weight = next(self.module.parameters())
        hidden = self.first(pixels.to(weight.device, weight.dtype))
        return Flow(hidden, tuple(picture.layout for picture in pictures))

    def resume(self, states: Sequence[Tensor], layouts: Sequence[Layout]) -> Flow:
        """Return the flow that has *states*."""
        return Flow(torch.cat(list(states)), tuple(layouts))

    def states(self, flow: Flow) -> list[Tensor]:
        """Return the hidden states of each image's tiles."""
        return self._split(flow.hidden, flow)

    def layer(self, number: int, flow: Flow) -> Tensor:
        """Return the output of one layer."""
        return self.block(number, flow.hidden)

    def weights(self, number: int, flow: Flow) -> list[Tensor]:
        """Return attention within tiles."""
        query, key = self.query_key(number, flow.hidden)
        scores = query.float() @ key.float().transpose(-1, -2) * query.shape[-1] ** -0.5
        return self._split(scores.softmax(-1), flow)

    def project(self, flow: Flow) -> list[Tensor]:
        """Return visual tokens, tile after tile."""
        return [tiles.flatten(0, 1) for tiles in self._split(self.last(flow.hidden), flow)]

    def spread(self, vectors: Tensor, flow: Flow) -> Tensor:
        """Return the vector of its image for each tile, ``(tiles, 1, width)``."""
        tiles = torch.tensor([layout.tiles for layout in flow.layouts])
        at = torch.arange(len(tiles)).repeat_interleave(tiles)
        return vectors.to(flow.hidden.device)[at.to(flow.hidden.device), None]

    @staticmethod
    def _split(tensor: Tensor, flow: Flow) -> list[Tensor]:
        return list(tensor.split([layout.tiles for layout in flow.layouts]))


def heads_apart(tensor: Tensor, heads: int) -> Tensor:
    """Return ``(tiles, tokens, width)`` as ``(tiles, heads, tokens, head width)``."""
    return tensor.unflatten(-1, (heads, -1)).transpose(1, 2)
