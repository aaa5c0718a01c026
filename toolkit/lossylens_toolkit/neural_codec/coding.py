"""Latents to strings and back, and what they would cost.

A network walks through its latents once, segment by segment (a slice, or half of
one), and hands each segment with its scales and means to a coder.  Four coders
share that walk: :class:`Likelihoods` for training and estimation, :class:`Encoder`
and :class:`Decoder` for bitstreams, :class:`Rounding` for latents alone.  So all of
them run the same operations in the same order, and the quantised latents agree.

Values outside a table are escaped as in CompressAI's coder, at the same cost: an
escape symbol, the number of groups of four bits, and the groups.  Here these are
symbols of a uniform table, so that the decoder reads a bounded number of bits per
value whatever the string holds.
"""

from __future__ import annotations

import itertools
import math
import zlib
from typing import Protocol

import numpy as np
import torch
from lossylens.errors import BitstreamError
from numpy.typing import NDArray
from torch import Tensor

from lossylens_toolkit.neural_codec.compressai import (
    GaussianConditional,
    RansDecoder,
    RansEncoder,
    quantize_ste,
)
from lossylens_toolkit.neural_codec.probability_tables import SCALES, Tables, gaussian_tables

_NIBBLES = 8
#: Bits that one value takes at most: symbol, number of groups, groups.
_VALUE_BITS = 16 + 4 + 4 * _NIBBLES
#: Symbols of a string at least.
_FEWEST = 8
#: Between any two neighbours of the table of scales.
_BOUNDS = [math.sqrt(low * high) for low, high in itertools.pairwise(SCALES)]
#: Far outside every table and still within eight groups of four bits.
_LIMIT = 2**29


class Coder(Protocol):
    """What a network's walk through its latents calls for each segment."""

    def code(self, scales: Tensor, means: Tensor, y: Tensor | None) -> Tensor:
        """Return the quantised latents of a segment.

        Args:
            scales: standard deviations, of any shape.
            means: of the same shape.
            y: the latents, of the same shape; None where they are decoded.
        """


class Likelihoods:
    """Quantises, and keeps the likelihood of each segment in ``segments``."""

    def __init__(self, gaussian: GaussianConditional) -> None:
        self.segments: list[Tensor] = []
        self._gaussian = gaussian

    def code(self, scales: Tensor, means: Tensor, y: Tensor | None) -> Tensor:
        """See :meth:`Coder.code`; rounding passes the gradient on as it is."""
        assert y is not None
        _, likelihoods = self._gaussian(y, scales, means=means)
        self.segments.append(likelihoods)
        return quantize_ste(y - means) + means


class Rounding:
    """Quantises as :class:`Encoder` does, and codes nothing."""

    def code(self, scales: Tensor, means: Tensor, y: Tensor | None) -> Tensor:
        """See :meth:`Coder.code`."""
        assert y is not None
        return _rounded(y, means) + means


class Encoder:
    """Collects the symbols of one image; :meth:`finish` codes them.

    Args:
        tables: of the standard deviations; by default those of Gaussians.

    Attributes:
        checksum: CRC-32 of symbols and table indexes so far.
    """

    def __init__(self, tables: Tables | None = None) -> None:
        self.checksum = 0
        self._symbols: list[NDArray[np.int64]] = []
        self._indexes: list[NDArray[np.int64]] = []
        self._tables = tables or gaussian_tables()

    def code(self, scales: Tensor, means: Tensor, y: Tensor | None) -> Tensor:
        """See :meth:`Coder.code`."""
        assert y is not None
        rounded = _rounded(y, means)
        symbols, indexes = _flat(rounded), _indexes(scales)
        self.checksum = _checksum(symbols, indexes, self.checksum)
        for part, index in _with_escapes(symbols, indexes, self._tables):
            self._symbols.append(part)
            self._indexes.append(index)
        return rounded + means

    def finish(self) -> bytes:
        """Return the string of all segments."""
        if not self._symbols:
            return b""
        return _encode(np.concatenate(self._symbols), np.concatenate(self._indexes), self._tables)


class Decoder:
    """Decodes the segments of one image in turn.

    Attributes:
        checksum: as the encoder's.
    """

    def __init__(self, string: bytes, count: int, tables: Tables | None = None) -> None:
        """Take the *string* of an image, the number of latents in it, and the encoder's tables."""
        self.checksum = 0
        self._tables = tables or gaussian_tables()
        self._decoder = _open(string, count)

    def code(self, scales: Tensor, means: Tensor, y: Tensor | None = None) -> Tensor:
        """See :meth:`Coder.code`.

        Raises:
            BitstreamError: the string is damaged.
        """
        indexes = _indexes(scales)
        symbols = _decode(self._decoder, indexes, self._tables)
        self.checksum = _checksum(symbols, indexes, self.checksum)
        values = torch.from_numpy(symbols).to(device=means.device, dtype=means.dtype)
        return values.reshape(means.shape) + means


def encode_bottleneck(z: Tensor, medians: Tensor, tables: Tables) -> tuple[bytes, Tensor]:
    """Code *z* ``(1, C, h, w)`` with one table for each channel; return string and values."""
    rounded = _rounded(z, medians)
    parts = _with_escapes(_flat(rounded), _channels(z.shape), tables)
    symbols = np.concatenate([symbols for symbols, _ in parts])
    indexes = np.concatenate([indexes for _, indexes in parts])
    return _encode(symbols, indexes, tables), rounded + medians


def decode_bottleneck(
    string: bytes, shape: tuple[int, int], medians: Tensor, tables: Tables
) -> Tensor:
    """Return the values that :func:`encode_bottleneck` returned.

    Raises:
        BitstreamError: the string is damaged.
    """
    full = torch.Size((1, medians.shape[1], *shape))
    symbols = _decode(_open(string, full.numel()), _channels(full), tables)
    values = torch.from_numpy(symbols).to(device=medians.device, dtype=medians.dtype)
    return values.reshape(full) + medians


def quantised_bottleneck(z: Tensor, medians: Tensor) -> Tensor:
    """Return the values that :func:`encode_bottleneck` returns, of any number of pictures."""
    return _rounded(z, medians) + medians


def _rounded(values: Tensor, means: Tensor) -> Tensor:
    return torch.round(values.to(means.dtype) - means).clamp_(-_LIMIT, _LIMIT)


def _flat(values: Tensor) -> NDArray[np.int64]:
    return values.detach().reshape(-1).to(torch.int64).cpu().numpy()


def _channels(shape: torch.Size) -> NDArray[np.int64]:
    _, channels, height, width = shape
    return np.repeat(np.arange(channels), height * width)


def _indexes(scales: Tensor) -> NDArray[np.int64]:
    """Return for each scale the nearest of :data:`SCALES`, by their logarithms.

    CompressAI takes the next larger one, which makes strings of low rates two percent
    longer.
    """
    bounds = torch.tensor(_BOUNDS, dtype=scales.dtype, device=scales.device)
    return torch.bucketize(scales.detach().reshape(-1), bounds).cpu().numpy()


def _checksum(symbols: NDArray[np.int64], indexes: NDArray[np.int64], start: int) -> int:
    return zlib.crc32(
        indexes.astype("u1").tobytes(), zlib.crc32(symbols.astype("<i4").tobytes(), start)
    )


def _with_escapes(
    symbols: NDArray[np.int64], indexes: NDArray[np.int64], tables: Tables
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return symbols of the tables with their indexes: values, then escaped lengths and groups."""
    values, escape = symbols - tables.smallest[indexes], tables.escape[indexes]
    outside = (values < 0) | (values >= escape)
    if not outside.any():
        return [(values, indexes)]
    beyond, limit = values[outside], escape[outside]
    raw = np.where(beyond < 0, -2 * beyond - 1, 2 * (beyond - limit))
    groups = raw[:, None] >> (4 * np.arange(_NIBBLES))
    lengths = (groups != 0).sum(1)
    content = np.concatenate([lengths, (groups & 15)[np.arange(_NIBBLES) < lengths[:, None]]])
    return [
        (np.where(outside, escape, values), indexes),
        (content, np.full(len(content), tables.nibble)),
    ]


def _encode(symbols: NDArray[np.int64], indexes: NDArray[np.int64], tables: Tables) -> bytes:
    # The range coder makes room for as many words as there are symbols, and its last
    # state takes two; what is added is never read.
    lacking = max(0, _FEWEST - len(symbols))
    symbols, indexes = np.pad(symbols, (0, lacking)), np.pad(indexes, (0, lacking))
    return RansEncoder().encode_with_indexes(symbols.tolist(), *tables.select(indexes))


def _open(string: bytes, count: int) -> RansDecoder:
    """Return a decoder that cannot read past the end of *string*.

    The range coder checks nothing; zeros behind the string are as many as *count*
    values can take at most.
    """
    decoder = RansDecoder()
    decoder.set_stream(string.ljust(count * _VALUE_BITS // 8 + 16, b"\0"))
    return decoder


def _decode(decoder: RansDecoder, indexes: NDArray[np.int64], tables: Tables) -> NDArray[np.int64]:
    def read(indexes: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.asarray(decoder.decode_stream(*tables.select(indexes)), dtype=np.int64)

    if not indexes.size:
        return indexes
    values = read(indexes)
    outside = values == tables.escape[indexes]
    if outside.any():
        lengths = read(np.full(outside.sum(), tables.nibble))
        if lengths.max() > _NIBBLES:
            raise BitstreamError("damaged: an escaped value is too long")
        groups = np.zeros((len(lengths), _NIBBLES), dtype=np.int64)
        held = np.arange(_NIBBLES) < lengths[:, None]
        if held.any():
            groups[held] = read(np.full(held.sum(), tables.nibble))
        raw = (groups << (4 * np.arange(_NIBBLES))).sum(1)
        values[outside] = np.where(raw % 2, -(raw + 1) // 2, raw // 2 + values[outside])
    return values + tables.smallest[indexes]
