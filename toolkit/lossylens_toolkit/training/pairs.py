"""Pairs of an original and what a codec leaves of it, on which adaptors are trained.

Each picture is coded once at each codec and level and its bitstream kept, in a folder that
trainings and runs share, so that later passes only decode; of a learned codec whose latents
alone are asked for, nothing is coded at all.  Which pictures and rate points
a step gets is a function of the seed and its number: a training that is resumed goes on
with the pairs that would have come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from cachetools import LRUCache
from lossylens.adaptor import Needs, TrainingPicture, TrainingPoint
from lossylens.codec import SOURCE, Codec, CodecPoint, Latents
from lossylens.images import content_hash
from lossylens.images.pixels import coded_size, decoded_image, squared
from lossylens.store.sharing import SharedBitstreams
from lossylens.vlm import Condition
from PIL.Image import Image
from torch.utils.data import Dataset

from lossylens_toolkit.neural_codec.learned_codec import NeuralCodec
from lossylens_toolkit.training.training_pictures import read_picture


@dataclass(frozen=True)
class Variant:
    """What a codec leaves of a picture.

    Attributes:
        image: the decoded image; None if no pixels were asked for.
        condition: codec, level, and bitstream or latents if they were asked for.
    """

    image: Image | None
    condition: Condition


@dataclass(frozen=True)
class Pair:
    """A picture and some variants of it.

    Attributes:
        number: of the picture among those of the training.
        original: as it is.
        variants: what codecs leave of it.
    """

    number: int
    original: Image
    variants: tuple[Variant, ...]


class CodedPictures:
    """Pictures at rate points, coded when they are first asked for.

    Args:
        pictures: the originals.
        points: codecs at their levels.
        cache: folder of bitstreams; see :class:`~lossylens.store.sharing.SharedBitstreams`.
        needs: what of a compressed picture is asked for.
        kept: bytes of decoded pictures, and again of latents, that each process keeps in memory.
    """

    def __init__(
        self,
        pictures: Sequence[TrainingPicture],
        points: Sequence[TrainingPoint],
        cache: Path,
        needs: Needs = Needs.PIXELS,
        *,
        kept: int = 1 << 28,
    ) -> None:
        self.pictures, self.points, self.needs = pictures, points, needs
        self._cache = SharedBitstreams(cache, where="the folder of bitstreams")
        self._kept = kept
        self._begin()

    def __getstate__(self) -> dict[str, Any]:
        # Codecs and pictures are made anew in each process.
        return {
            "pictures": self.pictures,
            "points": self.points,
            "needs": self.needs,
            "_cache": self._cache,
            "_kept": self._kept,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def _begin(self) -> None:
        self._codecs: dict[str, Codec] = {}
        self._decoded: LRUCache[tuple[int, str], tuple[str, Image]] = LRUCache(
            self._kept, getsizeof=lambda entry: 3 * entry[1].width * entry[1].height
        )
        self._latents: LRUCache[tuple[int, str], Latents] = LRUCache(
            self._kept, getsizeof=lambda latents: latents.values.nbytes
        )

    def _read(self, number: int) -> tuple[str, Image]:
        """Return hash and pixels of a picture."""
        found = self._decoded.get((number, ""))
        if found is None:
            picture = self.pictures[number]
            data = picture.read()
            found = content_hash(data), read_picture(picture.name, lambda: data)
            self._keep((number, ""), found)
        return found

    def _keep(self, key: tuple[int, str], entry: tuple[str, Image]) -> None:
        # A picture that is larger than all that is kept cannot be put in.
        if self._decoded.getsizeof(entry) <= self._decoded.maxsize:
            self._decoded[key] = entry

    def original(self, number: int) -> Image:
        """Return a picture as it is.

        Raises:
            ImageError: it cannot be decoded.
        """
        return self._read(number)[1]

    def variant(self, number: int, point: TrainingPoint | None) -> Variant:
        """Return a picture behind *point*; None stands for the picture as it is.

        Raises:
            ImageError: it cannot be decoded, or the codec cannot carry it.
        """
        sha256, original = self._read(number)
        if point is None:
            return Variant(original, Condition(SOURCE, original.size))
        codec = self._codec(point)
        if self.needs == Needs.LATENTS and isinstance(codec, NeuralCodec):
            key = number, point.point.key
            latents = self._latents.get(key) or self._quantised([number], point)[0]
            return Variant(None, Condition(point.point, original.size, None, latents))
        bitstream = self._bitstream(codec, point.point, sha256, original)
        condition = Condition(point.point, original.size)
        if Needs.BITSTREAM in self.needs:
            condition = replace(condition, bitstream=bitstream)
        if Needs.LATENTS in self.needs:
            latents = self._read_latents(number, codec, point.point.key, bitstream)
            condition = replace(condition, latents=latents)
        image = None
        if Needs.PIXELS in self.needs:
            size = coded_size(original.size, point.point.square)
            image = self._decode(number, codec, point.point.key, bitstream, size)
        return Variant(image, condition)

    def quantise(self, wanted: Sequence[tuple[int, TrainingPoint | None]]) -> None:
        """Compute what is asked of pictures at points together, where it is latents alone."""
        if self.needs != Needs.LATENTS:
            return
        lacking: dict[str, tuple[TrainingPoint, set[int]]] = {}
        for number, point in wanted:
            if point is not None and (number, point.point.key) not in self._latents:
                lacking.setdefault(point.point.key, (point, set()))[1].add(number)
        for point, numbers in lacking.values():
            if isinstance(self._codec(point), NeuralCodec):
                self._quantised(sorted(numbers), point)

    def _quantised(self, numbers: Sequence[int], point: TrainingPoint) -> list[Latents]:
        """Return latents without coding them: nothing else is asked of a bitstream."""
        codec = self._codec(point)
        assert isinstance(codec, NeuralCodec)
        pictures = [_coded(self.original(number), point.point) for number in numbers]
        found = codec.quantised(pictures)
        for number, latents in zip(numbers, found, strict=True):
            if self._latents.getsizeof(latents) <= self._latents.maxsize:
                self._latents[number, point.point.key] = latents
        return found

    def _read_latents(self, number: int, codec: Codec, key: str, bitstream: bytes) -> Latents:
        found = self._latents.get((number, key))
        if found is None:
            found = codec.latents(bitstream)
            if self._latents.getsizeof(found) <= self._latents.maxsize:
                self._latents[number, key] = found
        return found

    def _decode(
        self, number: int, codec: Codec, key: str, bitstream: bytes, size: tuple[int, int]
    ) -> Image:
        found = self._decoded.get((number, key))
        if found is None:
            found = "", decoded_image(codec, bitstream, size, parity=False)
            self._keep((number, key), found)
        return found[1]

    def bits_per_pixel(self, number: int, point: TrainingPoint) -> float:
        """Return the rate of a picture at *point*, in bits per pixel of the original."""
        sha256, original = self._read(number)
        bitstream = self._bitstream(self._codec(point), point.point, sha256, original)
        return 8 * len(bitstream) / (original.width * original.height)

    def _codec(self, point: TrainingPoint) -> Codec:
        key = point.point.key
        if key not in self._codecs:
            self._codecs[key] = point.build()
        return self._codecs[key]

    def _bitstream(self, codec: Codec, point: CodecPoint, sha256: str, original: Image) -> bytes:
        key = point.key
        found = self._cache.get(key, sha256)
        if found is not None:
            return found
        with self._cache.locked(key, sha256):
            found = self._cache.get(key, sha256)
            if found is None:
                found = codec.encode(_coded(original, point))
                self._cache.put(key, sha256, found)
        return found


def _coded(original: Image, point: CodecPoint) -> Image:
    """Return what the codec is given of a picture."""
    copy = original.copy()
    return copy if point.square is None else squared(copy, point.square)


class Pairs(Dataset[Pair]):
    """Pairs by number: a random picture with some random variants.

    Args:
        coded: pictures and rate points.
        count: how many pairs there are.
        seed: of all of them.
        variants: of each picture; the original is encoded once for all.
        clean: share of variants that are the picture as it is.
    """

    def __init__(
        self, coded: CodedPictures, count: int, seed: int, *, variants: int = 1, clean: float = 0.0
    ) -> None:
        self._coded, self._count, self._seed = coded, count, seed
        self._variants, self._clean = variants, clean

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Pair:
        picture, points = self._drawn(number)
        return Pair(
            picture,
            self._coded.original(picture),
            tuple(self._coded.variant(picture, point) for point in points),
        )

    def __getitems__(self, numbers: Sequence[int]) -> list[Pair]:
        """Return several at once, as PyTorch asks for a batch."""
        drawn = [self._drawn(number) for number in numbers]
        self._coded.quantise([(picture, each) for picture, points in drawn for each in points])
        return [self[number] for number in numbers]

    def _drawn(self, number: int) -> tuple[int, list[TrainingPoint | None]]:
        """Return the picture, and the points behind which it is shown."""
        if not 0 <= number < self._count:
            raise IndexError(number)
        random = np.random.default_rng([self._seed, number])
        picture = int(random.integers(len(self._coded.pictures)))
        points: list[TrainingPoint | None] = []
        for _ in range(self._variants):
            clean = not self._coded.points or random.random() < self._clean
            chosen = int(random.integers(max(1, len(self._coded.points))))
            points.append(None if clean else self._coded.points[chosen])
        return picture, points
