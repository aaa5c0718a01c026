"""Vision encoders, open for adaptation.

A tower runs the encoder of a loaded model layer by layer, so that an adaptor can read
the hidden states and attention of any layer, add conditions, or enter at a layer with
hidden states of its own.  The engine encodes through the same code.  All methods are
differentiable; whoever needs no gradients calls them under ``torch.inference_mode``.

Conditions are arguments, never state of a module and never hooks, so that a model with and
without an adaptor can use the same tower at the same time.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Self

import torch
from lossylens.errors import ConfigError
from PIL.Image import Image
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lossylens_toolkit.transformers_vlm.vision_inputs import Layout, PreparedImage, VisualTokens

#: How many names a message lists.
_NAMED = 3


@dataclass(frozen=True)
class Flow:
    """Hidden states on their way through a tower.

    Attributes:
        hidden: of all images, in the order and shape that the tower's layers take.
        layouts: of the images, in order.
        film: gain and bias of norms, ``(images, layers, 2, 2, width)``; None for none.
        extra: what else the tower's layers need (owners of tokens, rotary angles, windows).
    """

    hidden: Tensor
    layouts: tuple[Layout, ...]
    film: Tensor | None
    extra: Any


class VisionTower(ABC):
    """A vision encoder; see :class:`lossylens.vlm.VisionAccess` for the public methods.

    Its layers are those of all vision transformers: attention behind a norm, then a
    feed-forward network behind a norm, each added to its input.

    Attributes:
        module: the encoder itself, whose parameters adaptors train.
        projectors: what of the way to the language model is not in *module*, by name.
        unused: names of parameters on which no feature depends; clones leave them frozen.
        preprocess: image and detail to :class:`PreparedImage`.
        detail: at which :meth:`prepare` preprocesses.
        layers: number of transformer layers.
        width: of the hidden states.
        angles: rotary angles per token; 0 where positions are learned.
        extra: class tokens per tile.
        tiled: whether an image may have several tiles.
        merge: side of the squares of patches that become one visual token.
        windowed: layers whose attention stays within windows.
        cloned: whether the weights are its own, so that they may be changed.
    """

    module: nn.Module
    projectors: Mapping[str, nn.Module] = MappingProxyType({})
    unused: Collection[str] = ()
    preprocess: Callable[[Image, Hashable], PreparedImage]
    detail: Hashable = None
    layers: int
    width: int
    angles: int = 0
    extra: int = 0
    tiled: bool = False
    merge: int = 1
    windowed: Collection[int] = ()
    cloned: bool = False

    # What a family implements.  It holds nothing that is made of the weights.

    @abstractmethod
    def layout(self, size: tuple[int, int]) -> Layout:
        """Return the layout that an image of *size* (width, height) gets at the default."""

    @abstractmethod
    def embed(self, pictures: Sequence[PreparedImage]) -> Tensor:
        """Return the input of the first layer, positions included where they are learned."""

    @abstractmethod
    def arrange(self, states: Sequence[Tensor], layouts: tuple[Layout, ...]) -> Tensor:
        """Return *states*, shaped as :class:`Layout` says, in the order of a flow."""

    @abstractmethod
    def locate(
        self,
        layouts: tuple[Layout, ...],
        device: torch.device,
        angles: Tensor | None,
        query: Tensor | None,
    ) -> Any:
        """Return :attr:`Flow.extra`.

        Args:
            layouts: of the images.
            device: of the hidden states.
            angles: to be added to the rotary angles, ``(images, angles)``.
            query: to be added to those of queries, ``(images, layers, angles)``.
        """

    @abstractmethod
    def spread(self, vectors: Tensor, flow: Flow) -> Tensor:
        """Return *vectors*, one per image, for each token in the flow's order."""

    @abstractmethod
    def states(self, flow: Flow) -> list[Tensor]:
        """Return the hidden states per image, shaped as :class:`Layout` says."""

    @abstractmethod
    def norms(self, number: int) -> tuple[nn.Module, nn.Module]:
        """Return the two norms of a layer."""

    @abstractmethod
    def attend(self, number: int, given: Tensor, flow: Flow) -> Tensor:
        """Return what a layer's attention adds, given the output of the first norm."""

    @abstractmethod
    def feed(self, number: int, given: Tensor) -> Tensor:
        """Return what a layer's feed-forward network adds, given that of the second."""

    @abstractmethod
    def weights(self, number: int, given: Tensor, flow: Flow) -> list[Tensor]:
        """Return one layer's attention per image, ``(tiles, heads, tokens, tokens)``."""

    @abstractmethod
    def project(self, flow: Flow) -> list[Tensor]:
        """Return, per image, what enters the language model: ``(visual tokens, D)``."""

    def detail_at(self, resolution: int) -> Hashable:
        """Return the detail at which images have about *resolution* pixels.

        Encoders that know one size have one detail.
        """
        return self.detail

    def alike(self, layouts: Sequence[Layout]) -> list[list[int]]:
        """Return the places of images that can go through the layers in one flow."""
        return [list(range(len(layouts)))]

    def refusal(self, layout: Layout) -> str:
        """Return why hidden states of *layout* cannot be entered, ``""`` if they can."""
        if layout.extra != self.extra:
            return f"it has {layout.extra} class tokens, and this encoder has {self.extra}"
        if layout.tiles != 1 and not self.tiled:
            return f"it has {layout.tiles} tiles, and this encoder does not cut images"
        if not layout.rows or not layout.columns:
            return "it has no patches"
        if layout.rows % self.merge or layout.columns % self.merge:
            grid = f"{layout.rows}x{layout.columns}"
            return f"its {grid} patches do not make up squares of {self.merge}x{self.merge}"
        return ""

    # What adaptors and the engine call.

    def encode(
        self,
        pictures: Sequence[PreparedImage],
        *,
        embedding: Tensor | None = None,
        angles: Tensor | None = None,
        query: Tensor | None = None,
        film: Tensor | None = None,
        states: Sequence[Tensor] | None = None,
        checkpointing: bool = False,
    ) -> list[VisualTokens]:
        """Encode images to what enters the language model.

        Embedding, query, film and states of zeros change nothing, to the last bit.

        Args:
            pictures: preprocessed images.
            embedding: condition per image ``(images, width)``, added to every token
                of the input of the first layer, class tokens included.
            angles: condition per image ``(images, angles)``, added to the rotary angles
                of every token.  Attention depends on differences of angles alone, so a
                vector that all tokens of an image share cancels: this is where the
                conditional vision encoder of the paper adds it, and it has no effect.
            query: condition per image ``(images, angles)``, or ``(images, layers, angles)``
                for each layer, added to the rotary angles of queries and not of keys.
            film: condition per image ``(images, layers, 2, 2, width)``: for the two norms of
                every layer a gain and a bias; the norm's output becomes
                ``out * (1 + gain) + bias`` (FiLM, arXiv:1709.07871).
            states: per image ``(tiles, tokens, width)``, added to the input of the first
                layer.
            checkpointing: compute layers again for gradients instead of keeping what
                they need.

        Raises:
            ConfigError: *angles* or *query* where the encoder has no rotary angles, or a
                shape is another.
        """
        flow = self._started(pictures, embedding, angles, query, film, states)
        return self._finish(self._run(flow, 0, self.layers, checkpointing))

    def hidden_states(
        self,
        pictures: Sequence[PreparedImage],
        layers: Collection[int],
        *,
        embedding: Tensor | None = None,
        angles: Tensor | None = None,
        query: Tensor | None = None,
        film: Tensor | None = None,
        states: Sequence[Tensor] | None = None,
        checkpointing: bool = False,
    ) -> Mapping[int, list[Tensor]]:
        """Return the input of each of *layers*, per image; ``layers`` itself is the output.

        Each has the shape ``(tiles, tokens, width)``; nothing behind the last of
        *layers* is computed.  Conditions are those of :meth:`encode`.

        Raises:
            ConfigError: there is no such layer, or as :meth:`encode`.
        """
        self._check_layers(layers)
        flow = self._started(pictures, embedding, angles, query, film, states)
        return self._passed(flow, 0, layers, checkpointing)

    def attention(
        self, pictures: Sequence[PreparedImage], layers: Collection[int]
    ) -> Mapping[int, list[Tensor]]:
        """Return the attention weights of each of *layers*, per image.

        Each has the shape ``(tiles, heads, tokens, tokens)``, queries before keys, and
        is zero between tokens of different windows.

        Raises:
            ConfigError: there is no such layer.
        """
        flow, first = self._started(pictures), 0
        found = {}
        for number in sorted(layers):
            if not 0 <= number < self.layers:
                raise ConfigError(f"the vision encoder has no layer {number}; it has {self.layers}")
            flow = self._run(flow, first, number, checkpointing=False)
            found[number] = self.weights(number, self._normed(number, 0, flow.hidden, flow), flow)
            first = number
        return found

    def enter(
        self,
        layer: int,
        states: Sequence[Tensor],
        layouts: Sequence[Layout],
        *,
        checkpointing: bool = False,
    ) -> list[VisualTokens]:
        """Run the layers from *layer* on, given its input.

        Images may differ in their grids; :meth:`refusal` says which an encoder takes.

        Args:
            layer: first layer to run, counted from 0; ``layers`` runs the projector only.
            states: per image ``(tiles, tokens, width)``, as :meth:`hidden_states` gives.
            layouts: of the images.
            checkpointing: as in :meth:`encode`.

        Raises:
            ConfigError: there is no such layer, a shape contradicts its layout, or the
                encoder does not take that layout.
        """
        found: dict[int, VisualTokens] = {}
        for places, flow in self._entered(layer, states, layouts):
            encoded = self._finish(self._run(flow, layer, self.layers, checkpointing))
            found.update(zip(places, encoded, strict=True))
        return [found[place] for place in range(len(layouts))]

    def hidden_states_from(
        self,
        layer: int,
        states: Sequence[Tensor],
        layouts: Sequence[Layout],
        layers: Collection[int],
        *,
        checkpointing: bool = False,
    ) -> Mapping[int, list[Tensor]]:
        """Return what :meth:`hidden_states` does, entering at *layer* as :meth:`enter` does.

        Raises:
            ConfigError: as :meth:`enter`, or one of *layers* precedes *layer*.
        """
        self._check_layers(layers)
        if layers and min(layers) < layer:
            raise ConfigError(f"layer {min(layers)} precedes {layer}, where the states enter")
        found: dict[int, dict[int, Tensor]] = {number: {} for number in sorted(layers)}
        for places, flow in self._entered(layer, states, layouts):
            for number, of_images in self._passed(flow, layer, layers, checkpointing).items():
                found[number].update(zip(places, of_images, strict=True))
        return {
            number: [of_images[place] for place in range(len(layouts))]
            for number, of_images in found.items()
        }

    def parameters(self) -> Mapping[str, nn.Parameter]:
        """Return the encoder's parameters, projector included, by name."""
        parameters = dict(self.module.named_parameters())
        for name, module in self.projectors.items():
            parameters.update(module.named_parameters(prefix=name))
        return parameters

    @torch.inference_mode(False)
    def clone(self) -> Self:
        """Return a tower with a copy of the weights, in fp32 and trainable.

        It has nothing in common with this one but settings and preprocessing.

        Raises:
            ConfigError: the weights are quantised, or spread over several devices.
        """
        self._check_copyable()
        twin = copy.copy(self)
        twin.module, twin.projectors = copy.deepcopy((self.module, dict(self.projectors)))
        for module in (twin.module, *twin.projectors.values()):
            module.float().zero_grad()
        for name, parameter in twin.parameters().items():
            parameter.requires_grad_(name not in self.unused)
        twin.cloned = True
        return twin

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put weights in place, by the names of :meth:`parameters`.

        Raises:
            ConfigError: this is no clone, a name is missing or unknown, or a shape is
                another; the first few are named.  No weight is changed then.
        """
        if not self.cloned:
            raise ConfigError("the weights of the model itself are not replaced; clone them first")
        own = self.parameters()
        faults = {
            "lack": own.keys() - state.keys(),
            "hold, of no use here,": state.keys() - own.keys(),
            "have in another shape or type": {
                name
                for name in own.keys() & state.keys()
                if state[name].shape != own[name].shape or not state[name].is_floating_point()
            },
        }
        if found := [f"{what} {_some(names)}" for what, names in faults.items() if names]:
            raise ConfigError(f"the weights {'; they '.join(found)}: they are of another encoder")
        for name, parameter in own.items():
            parameter.copy_(state[name])

    @property
    def trainable(self) -> TrainableEncoder:
        """A module whose ``forward`` is :meth:`encode`."""
        return TrainableEncoder(self)

    @property
    def device(self) -> torch.device:
        """Where the encoder is."""
        return next(self.module.parameters()).device

    def prepare(
        self, images: Sequence[Image], *, resolution: int | None = None
    ) -> list[PreparedImage]:
        """Preprocess RGB images.

        Args:
            images: to be preprocessed.
            resolution: about so many pixels per image, as :meth:`detail_at` of the family
                says; None for the model's default detail.

        Raises:
            ConfigError: *resolution* is not positive.
            ValueError: the family takes no image of such a shape.
        """
        if resolution is not None and resolution < 1:
            raise ConfigError(f"a resolution of {resolution} pixels: it must be positive")
        detail = self.detail if resolution is None else self.detail_at(resolution)
        return [self.preprocess(image, detail) for image in images]

    def layer(self, number: int, flow: Flow) -> Tensor:
        """Return the output of one layer, in the flow's order."""
        given = self._normed(number, 0, flow.hidden, flow)
        hidden = flow.hidden + self.attend(number, given, flow)
        return hidden + self.feed(number, self._normed(number, 1, hidden, flow))

    def _normed(self, number: int, which: int, hidden: Tensor, flow: Flow) -> Tensor:
        out: Tensor = self.norms(number)[which](hidden)
        if flow.film is None:
            return out
        # To the dtype of the tokens only after spreading, so that gradients are summed
        # over tokens in that of the condition.
        of_tokens = self.spread(flow.film[:, number, which], flow).to(out.dtype)
        gain, bias = of_tokens.unbind(-2)
        return out * (1 + gain) + bias

    def _started(
        self,
        pictures: Sequence[PreparedImage],
        embedding: Tensor | None = None,
        angles: Tensor | None = None,
        query: Tensor | None = None,
        film: Tensor | None = None,
        states: Sequence[Tensor] | None = None,
    ) -> Flow:
        """Return the input of the first layer with its conditions."""
        layouts = tuple(picture.layout for picture in pictures)
        images = len(layouts)
        if not self.angles and (angles is not None or query is not None):
            raise ConfigError(
                f"{type(self).__name__} has learned positions and no rotary angles; "
                "add the condition to the embedding, or use film"
            )
        _check("embedding", embedding, (images, self.width))
        _check("angles", angles, (images, self.angles))
        _check("film", film, (images, self.layers, 2, 2, self.width))
        if query is not None and query.ndim == 2:
            _check("query", query, (images, self.angles))
            query = query[:, None].expand(-1, self.layers, -1)
        _check("query", query, (images, self.layers, self.angles))
        flow = self._flow(self.embed(pictures), layouts, film, angles, query)
        if embedding is not None:
            added = self.spread(embedding.to(flow.hidden.device), flow)
            flow = replace(flow, hidden=flow.hidden + added.to(flow.hidden.dtype))
        if states is not None:
            self._check_shapes(states, layouts)
            arranged = self.arrange([state.to(flow.hidden) for state in states], layouts)
            flow = replace(flow, hidden=flow.hidden + arranged)
        return flow

    def _entered(
        self, layer: int, states: Sequence[Tensor], layouts: Sequence[Layout]
    ) -> Iterable[tuple[list[int], Flow]]:
        """Yield the input of *layer* for images that go together, with their places."""
        if not 0 <= layer <= self.layers:
            raise ConfigError(f"the vision encoder has no layer {layer}; it has {self.layers}")
        self._check_shapes(states, layouts)
        for number, layout in enumerate(layouts):
            if reason := self.refusal(layout):
                raise ConfigError(f"image {number} cannot enter the vision encoder: {reason}")
        weight = next(self.module.parameters())
        for places in self.alike(layouts):
            alike = tuple(layouts[place] for place in places)
            given = [states[place].to(weight.device, weight.dtype) for place in places]
            yield places, self._flow(self.arrange(given, alike), alike)

    def _flow(
        self,
        hidden: Tensor,
        layouts: tuple[Layout, ...],
        film: Tensor | None = None,
        angles: Tensor | None = None,
        query: Tensor | None = None,
    ) -> Flow:
        film, angles, query = (
            each if each is None else each.to(hidden.device) for each in (film, angles, query)
        )
        return Flow(hidden, layouts, film, self.locate(layouts, hidden.device, angles, query))

    def _run(self, flow: Flow, first: int, last: int, checkpointing: bool) -> Flow:
        """Return what comes out of the layers from *first* to before *last*."""
        for number in range(first, last):
            flow = replace(flow, hidden=self._next(number, flow, checkpointing))
        return flow

    def _next(self, number: int, flow: Flow, checkpointing: bool) -> Tensor:
        if not (checkpointing and torch.is_grad_enabled()):
            return self.layer(number, flow)

        def layer(hidden: Tensor) -> Tensor:
            return self.layer(number, replace(flow, hidden=hidden))

        out: Any = checkpoint(layer, flow.hidden, use_reentrant=False)
        return out

    def _passed(
        self, flow: Flow, first: int, layers: Collection[int], checkpointing: bool
    ) -> dict[int, list[Tensor]]:
        """Return the input of each of *layers* of a flow that is the input of *first*."""
        found = {}
        for number in sorted(layers):
            flow = self._run(flow, first, number, checkpointing)
            found[number] = self.states(flow)
            first = number
        return found

    def _finish(self, flow: Flow) -> list[VisualTokens]:
        features = self.project(flow)
        return [
            VisualTokens(feature, layout)
            for feature, layout in zip(features, flow.layouts, strict=True)
        ]

    def _check_layers(self, layers: Collection[int]) -> None:
        for number in layers:
            if not 0 <= number <= self.layers:
                raise ConfigError(f"the vision encoder has no layer {number}; it has {self.layers}")

    def _check_shapes(self, states: Sequence[Tensor], layouts: Sequence[Layout]) -> None:
        if len(states) != len(layouts):
            raise ConfigError(f"hidden states of {len(states)} images, and {len(layouts)} layouts")
        for number, (state, layout) in enumerate(zip(states, layouts, strict=True)):
            name = f"hidden states of image {number}"
            _check(name, state, (layout.tiles, layout.tokens, self.width), be="are")

    def _check_copyable(self) -> None:
        parameters = self.parameters()
        # Quantised and sharded weights are of classes of their own.
        other = {
            name
            for name, each in parameters.items()
            if type(each) is not nn.Parameter or not each.is_floating_point()
        }
        if other:
            raise ConfigError(
                f"the vision encoder is quantised or sharded ({_some(other)}) and cannot be "
                "cloned; load the model with quantization: none"
            )
        devices = {str(each.device) for each in parameters.values()}
        if len(devices) > 1 or "meta" in devices:
            raise ConfigError(
                f"the vision encoder is spread over {' and '.join(sorted(devices))} and cannot "
                "be cloned; load the model on one device"
            )


class TrainableEncoder(nn.Module):
    """Encodes in its ``forward``, so that what wraps a module can synchronise gradients.

    Registered are the parameters of :meth:`VisionTower.parameters`.  Layers are not called
    as modules but in parts, so FSDP must wrap it as a whole (no policy of wrapping layers).

    Args:
        tower: whose encoder it is.
    """

    def __init__(self, tower: VisionTower) -> None:
        super().__init__()
        self.tower = tower
        self.encoder = tower.module
        self.projectors = nn.ModuleDict(tower.projectors)

    def forward(self, pictures: Sequence[PreparedImage], **conditions: Any) -> list[VisualTokens]:
        """Return what :meth:`VisionTower.encode` returns."""
        return self.tower.encode(pictures, **conditions)


class TiledTower(VisionTower):
    """A plain ViT: every tile attends to itself, positions are learned.

    Hidden states are ``(tiles of all images, tokens, width)``.
    """

    @abstractmethod
    def first(self, pixels: Tensor) -> Tensor:
        """Return patch embedding and positions of ``(tiles, 3, height, width)``."""

    @abstractmethod
    def mix(self, number: int, given: Tensor) -> Tensor:
        """Return what a layer's attention adds, given the output of the first norm."""

    @abstractmethod
    def query_key(self, number: int, given: Tensor) -> tuple[Tensor, Tensor]:
        """Return query and key of one layer, ``(tiles, heads, tokens, head width)``."""

    @abstractmethod
    def last(self, hidden: Tensor, rows: int, columns: int) -> Tensor:
        """Return the projected visual tokens ``(tiles, visual tokens of a tile, D)``."""

    def embed(self, pictures: Sequence[PreparedImage]) -> Tensor:
        """Return patch embeddings with positions."""
        pixels = torch.cat([picture.pixels for picture in pictures])
        weight = next(self.module.parameters())
        return self.first(pixels.to(weight.device, weight.dtype))

    def arrange(self, states: Sequence[Tensor], layouts: tuple[Layout, ...]) -> Tensor:
        """Return the tiles of all images."""
        return torch.cat(list(states))

    def locate(
        self,
        layouts: tuple[Layout, ...],
        device: torch.device,
        angles: Tensor | None,
        query: Tensor | None,
    ) -> Tensor:
        """Return the image of each tile."""
        tiles = torch.tensor([layout.tiles for layout in layouts])
        return torch.arange(len(tiles)).repeat_interleave(tiles).to(device)

    def spread(self, vectors: Tensor, flow: Flow) -> Tensor:
        """Return the vector of its image for each tile, ``(tiles, 1, width)``."""
        return vectors[flow.extra, None]

    def alike(self, layouts: Sequence[Layout]) -> list[list[int]]:
        """Return the places of images whose tiles have the same grid."""
        found: dict[tuple[int, int], list[int]] = {}
        for place, layout in enumerate(layouts):
            found.setdefault((layout.rows, layout.columns), []).append(place)
        return list(found.values())

    def states(self, flow: Flow) -> list[Tensor]:
        """Return the hidden states of each image's tiles."""
        return self._split(flow.hidden, flow)

    def attend(self, number: int, given: Tensor, flow: Flow) -> Tensor:
        """Return what attention within tiles adds."""
        return self.mix(number, given)

    def weights(self, number: int, given: Tensor, flow: Flow) -> list[Tensor]:
        """Return attention within tiles."""
        query, key = self.query_key(number, given)
        scores = query.float() @ key.float().transpose(-1, -2) * query.shape[-1] ** -0.5
        return self._split(scores.softmax(-1), flow)

    def project(self, flow: Flow) -> list[Tensor]:
        """Return visual tokens, tile after tile."""
        rows, columns = flow.layouts[0].rows, flow.layouts[0].columns
        projected = self.last(flow.hidden, rows, columns)
        return [tiles.flatten(0, 1) for tiles in self._split(projected, flow)]

    @staticmethod
    def _split(tensor: Tensor, flow: Flow) -> list[Tensor]:
        return list(tensor.split([layout.tiles for layout in flow.layouts]))


def heads_apart(tensor: Tensor, heads: int) -> Tensor:
    """Return ``(tiles, tokens, width)`` as ``(tiles, heads, tokens, head width)``."""
    return tensor.unflatten(-1, (heads, -1)).transpose(1, 2)


def _check(name: str, given: Tensor | None, expected: tuple[int, ...], be: str = "is") -> None:
    if given is not None and tuple(given.shape) != expected:
        raise ConfigError(f"{name} {be} {tuple(given.shape)}, not {expected}")


def _some(names: Iterable[str]) -> str:
    """Return the first few of *names*, and how many more there are."""
    given = sorted(names)
    more = f" and {len(given) - _NAMED} more" if len(given) > _NAMED else ""
    return f"{', '.join(given[:_NAMED])}{more}"
