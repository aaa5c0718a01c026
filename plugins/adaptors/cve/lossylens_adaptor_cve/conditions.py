"""How the encoder is told by which codec, and at which rate, an image was compressed.

Codec and level are embedded apart: the codec as a learned vector (one for the unknown codec and
one for images as they are among them), the level as a number, so that a level between those
of the training gets a condition between theirs.  Both enter a small network whose last layer
begins at zero, so that training begins with the encoder as it was.

``embedding``
    One vector added to all tokens before the first layer.
``film``
    Gain and bias for the two norms of every layer (FiLM, arXiv:1709.07871).
``query``
    Turns the queries, and not the keys, of every layer: the nearest thing to the published
    way that has an effect.
``rope``
    The published way (arXiv:2512.20901): a vector added to the rotary angles of all tokens of
    an image.  Attention depends on differences of angles alone, so it cancels in every
    layer, and has no effect, whatever it is.  Here to show just that.
``none``
    Nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lossylens.adaptor import TrainingPoint
from lossylens.errors import ConfigError
from lossylens.vlm import Condition, VisionAccess
from torch import Tensor, nn

#: Names of the first two vectors of codecs.
UNKNOWN, CLEAN = "(unknown)", "(uncompressed)"

#: Width of the vectors of codec and level, and of the small network.
_WIDTH = 64

#: Frequencies of the level's sines and cosines.
_WAVES = 8

#: log2 of the bits per pixel in the middle of what is common, and half of the range.
_MIDDLE_RATE, _HALF_RANGE = -2.0, 3.0


@dataclass(frozen=True)
class Vocabulary:
    """What a training knew.

    Attributes:
        codecs: names, the unknown and the uncompressed first.
        ranks: by codec, its levels and their rank from 0 to 1, ascending in rate.
    """

    codecs: tuple[str, ...]
    ranks: Mapping[str, Mapping[str, float]]

    @classmethod
    def of(cls, points: Sequence[TrainingPoint]) -> Vocabulary:
        """Return that of a training; levels come in the order of their codec."""
        levels: dict[str, list[str]] = {}
        for each in points:
            levels.setdefault(each.point.codec, []).append(each.point.level)
        ranks = {
            codec: {level: n / max(1, len(names) - 1) for n, level in enumerate(names)}
            for codec, names in levels.items()
        }
        return cls((UNKNOWN, CLEAN, *levels), ranks)

    @classmethod
    def read(cls, about: Mapping[str, Any]) -> Vocabulary:
        """Return what :meth:`described` gave."""
        return cls(tuple(about["codecs"]), about["ranks"])

    def described(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {"codecs": list(self.codecs), "ranks": {k: dict(v) for k, v in self.ranks.items()}}


@dataclass(frozen=True)
class Labels:
    """Which vector an image gets.

    Attributes:
        vocabulary: of the training.
        level: ``rate`` or ``rank``.
        passes_as: codecs that pass as another.
        label: ``true``, ``wrong`` or ``unknown``.
    """

    vocabulary: Vocabulary
    level: str
    passes_as: Mapping[str, str]
    label: str = "true"

    def known_as(self, codec: str) -> str:
        """Return the name of the vector that images of *codec* get."""
        if codec == "uncompressed":
            name = CLEAN
        else:
            name = self.passes_as.get(codec, codec)
            name = name if name in self.vocabulary.codecs else UNKNOWN
        if self.label == "unknown":
            return UNKNOWN
        if self.label == "wrong":
            others = [each for each in self.vocabulary.codecs if each not in (name, UNKNOWN)]
            return others[0] if others else UNKNOWN
        return name

    def numbers(self, condition: Condition) -> tuple[int, float]:
        """Return the place of the codec's vector, and the level, which is 0 in the middle."""
        point = condition.point
        name = self.known_as(point.codec)
        place = self.vocabulary.codecs.index(name)
        if name in (UNKNOWN, CLEAN):
            return place, 0.0
        value = self._level(condition, name)
        return place, -value if self.label == "wrong" else value

    def _level(self, condition: Condition, name: str) -> float:
        if self.level == "rank":
            return 2 * self.vocabulary.ranks[name].get(condition.point.level, 0.5) - 1
        if condition.bitstream is None:
            return 0.0
        width, height = condition.size
        rate = 8 * len(condition.bitstream) / (width * height)
        return (math.log2(max(rate, 1e-4)) - _MIDDLE_RATE) / _HALF_RANGE


class Conditioner(nn.Module):
    """Makes the arguments of :meth:`~lossylens.vlm.VisionAccess.encode` from numbers.

    Args:
        kind: see the module.
        of: ``both``, ``type`` or ``level``.
        codecs: how many vectors of codecs there are.
        layers, width, angles: of the encoder.
    """

    def __init__(
        self, kind: str, of: str, codecs: int, *, layers: int, width: int, angles: int
    ) -> None:
        super().__init__()
        self.kind, self.of = kind, of
        if kind in {"query", "rope"} and not angles:
            raise ConfigError(
                f"condition {kind}: this encoder has learned positions and no rotary angles;"
                " use film or embedding"
            )
        shapes = {
            "none": (),
            "embedding": (width,),
            "film": (layers, 2, 2, width),
            "query": (layers, angles),
            "rope": (angles,),
        }
        self.shape = shapes[kind]
        if kind == "none":
            return
        self.codec = nn.Embedding(codecs, _WIDTH)
        self.level = nn.Linear(2 * _WAVES, _WIDTH)
        self.hidden = nn.Linear(_WIDTH, _WIDTH)
        self.last = nn.Linear(_WIDTH, math.prod(self.shape))
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, places: Tensor, levels: Tensor) -> dict[str, Tensor]:
        """Return the arguments for images whose codec and level are given, both ``(images,)``."""
        if self.kind == "none":
            return {}
        vectors = torch.zeros(len(places), _WIDTH, device=places.device)
        if self.of != "level":
            vectors = vectors + self.codec(places)
        if self.of != "type":
            vectors = vectors + self.level(_waves(levels))
        vectors = self.last(nn.functional.silu(self.hidden(nn.functional.silu(vectors))))
        name = "angles" if self.kind == "rope" else self.kind
        return {name: vectors.unflatten(-1, self.shape)}


def _waves(levels: Tensor) -> Tensor:
    """Return sines and cosines of levels ``(images,)``, ``(images, 2 * _WAVES)``."""
    frequencies = torch.arange(1, _WAVES + 1, device=levels.device) * (math.pi / 4)
    turned = levels[:, None] * frequencies
    return torch.cat([turned.sin(), turned.cos()], -1)


def make_conditioner(
    kind: str, of: str, vocabulary: Vocabulary, vision: VisionAccess
) -> Conditioner:
    """Return the conditioner for an encoder.

    Raises:
        ConfigError: the encoder cannot take such a condition.
    """
    return Conditioner(
        kind,
        of,
        len(vocabulary.codecs),
        layers=vision.layers,
        width=vision.width,
        angles=vision.angles,
    )
