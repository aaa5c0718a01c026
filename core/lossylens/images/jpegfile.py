"""The structure of a JPEG file: frame header, quantisation tables, scans.

Only markers are read, no pixels are decoded, so this is cheap and its memory
is bounded by the data.  It serves two purposes: recording what a benchmark's
files went through before (:mod:`lossylens.images`), and refusing damaged
bitstreams that libjpeg would quietly fill with grey (the JPEG codec).

Follows ITU-T T.81 (ISO/IEC 10918-1): Annex B for the markers, Annex K for the
example quantisation tables, and libjpeg's ``jpeg_set_quality`` for their
scaling.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

SOI, EOI, SOS, DQT, DHT, APP0 = 0xD8, 0xD9, 0xDA, 0xDB, 0xC4, 0xE0
SOF_BASELINE, SOF_EXTENDED, SOF_PROGRESSIVE = 0xC0, 0xC1, 0xC2

#: Frame headers: C0..CF without DHT (C4), JPG (C8) and DAC (CC).
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}

#: The next marker in entropy-coded data; FF00 is a stuffed byte, FFD0..FFD7
#: are restart markers, FFFF is fill.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")

#: ``_ZIGZAG[i]`` is the place in the 8x8 block (row by row) of the i-th stored entry.
_ZIGZAG = sorted(
    range(64),
    key=lambda n: (n // 8 + n % 8, n // 8 if (n // 8 + n % 8) % 2 else n % 8),
)

#: Table K.1 of T.81, luminance.
_LUMA = (
    16, 11, 10, 16, 24, 40, 51, 61,
    12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77,
    24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip

#: Table K.2 of T.81, chrominance.
_CHROMA = (
    17, 18, 24, 47, 99, 99, 99, 99,
    18, 21, 26, 66, 99, 99, 99, 99,
    24, 26, 56, 99, 99, 99, 99, 99,
    47, 66, 99, 99, 99, 99, 99, 99,
    *(99,) * 32,
)  # fmt: skip

_SUBSAMPLING = {
    (1, 1): "4:4:4",
    (2, 1): "4:2:2",
    (2, 2): "4:2:0",
    (1, 2): "4:4:0",
    (4, 1): "4:1:1",
    (4, 2): "4:1:0",
}


class JpegFormatError(ValueError):
    """The data are not a JPEG file, or not a whole one; the message says why."""


@dataclass(frozen=True, slots=True)
class Component:
    """One colour component: sampling factors and number of its quantisation table."""

    horizontal: int
    vertical: int
    table: int


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """What precedes the first scan.

    Attributes:
        width, height: size in pixels; height may be 0 (given later, B.2.5).
        precision: bits per sample.
        frame: marker of the frame header, 0xC0 for baseline, 0xC2 progressive.
        components: in the order of the frame header.
        tables: quantisation tables by number, each 64 entries row by row.
        markers: markers of all segments in order, with the first scan's.
        scan: offset of the first scan's entropy-coded data.
    """

    width: int
    height: int
    precision: int
    frame: int
    components: tuple[Component, ...]
    tables: Mapping[int, tuple[int, ...]]
    markers: tuple[int, ...]
    scan: int

    @property
    def progressive(self) -> bool:
        """Whether the frame is progressive."""
        return self.frame in {0xC2, 0xC6, 0xCA, 0xCE}

    @property
    def subsampling(self) -> str:
        """Chroma subsampling, such as ``"4:2:0"``; ``"4:0:0"`` for grey.

        Combinations without a customary name are written as sampling factors,
        such as ``"2x2,1x2,1x1"``.
        """
        if len(self.components) == 1:
            return "4:0:0"
        factors = [(c.horizontal, c.vertical) for c in self.components]
        if len(factors) == 3 and factors[1] == factors[2] == (1, 1):
            return _SUBSAMPLING.get(factors[0], f"{factors[0][0]}x{factors[0][1]}")
        if len(set(factors)) == 1:
            return "4:4:4"
        return ",".join(f"{h}x{v}" for h, v in factors)

    def blocks(self) -> int:
        """Return how many 8x8 blocks the components have, MCU padding left out."""
        widest = max(c.horizontal for c in self.components)
        highest = max(c.vertical for c in self.components)
        total = 0
        for component in self.components:
            across = -(-self.width * component.horizontal // (8 * widest))
            down = -(-self.height * component.vertical // (8 * highest))
            total += across * down
        return total

    def component_tables(self) -> list[tuple[int, ...]]:
        """Return the quantisation table of each component.

        Raises:
            JpegFormatError: a component names a table that is not there.
        """
        try:
            return [self.tables[component.table] for component in self.components]
        except KeyError as error:
            raise JpegFormatError(f"quantisation table {error} is missing") from None


def read_header(data: bytes) -> JpegHeader:
    """Read the markers of *data* up to the first scan.

    Raises:
        JpegFormatError: not a JPEG, or it ends or breaks before the first scan.
    """
    if data[:2] != b"\xff\xd8":
        raise JpegFormatError("not a JPEG (no start-of-image marker)")
    frame: tuple[int, bytes] | None = None
    tables: dict[int, tuple[int, ...]] = {}
    markers: list[int] = []
    for marker, body, end in _segments(data, 2):
        markers.append(marker)
        if marker == DQT:
            tables.update(_tables(body))
        elif marker in _FRAMES:
            if frame:
                raise JpegFormatError("two frame headers")
            frame = marker, body
        elif marker == SOS:
            if not frame:
                raise JpegFormatError("a scan precedes the frame header")
            return _header(*frame, tables, tuple(markers), end)
    raise JpegFormatError("no scan")


def read_scans(data: bytes, header: JpegHeader) -> tuple[int, ...]:
    """Walk through the scans and return the markers that follow the first scan.

    The last one is the end-of-image marker, and it ends *data*: a file that was
    cut anywhere does not pass.  Entropy-coded data are not decoded.

    Raises:
        JpegFormatError: the file is cut, or bytes follow the end of the image.
    """
    markers: list[int] = []
    position = header.scan
    while match := _MARKER.search(data, position):
        if data[match.start() + 1] == EOI:
            if match.end() != len(data):
                raise JpegFormatError(f"{len(data) - match.end()} bytes follow the end of image")
            return (*markers, EOI)
        for marker, _, end in _segments(data, match.start()):
            markers.append(marker)
            position = end
            if marker == SOS:
                break
    raise JpegFormatError("truncated (no end-of-image marker)")


@dataclass(frozen=True, slots=True)
class QualityEstimate:
    """Quality on libjpeg's scale, 1..100.

    Attributes:
        quality: the quality whose tables are those of the file, or nearest.
        exact: whether they are the same, entry by entry.
    """

    quality: int
    exact: bool


def standard_tables(quality: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return libjpeg's luma and chroma tables of *quality* (1..100), row by row.

    The example tables of Annex K in percent (``5000 / quality`` below 50,
    ``200 - 2 * quality`` from there), entries limited to the baseline's 1..255.
    """
    if not 1 <= quality <= 100:
        raise ValueError(f"quality {quality} is outside 1..100")
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    luma, chroma = (
        tuple(min(max((entry * percent + 50) // 100, 1), 255) for entry in table)
        for table in (_LUMA, _CHROMA)
    )
    return luma, chroma


def estimate_quality(header: JpegHeader) -> QualityEstimate:
    """Return the quality at which the file was encoded, from its tables.

    The table of the first component and that of the second, unless they share
    one (CMYK), are compared with :func:`standard_tables` of every quality;
    without an exact match the nearest in the sense of least squares is taken, as
    for encoders with tables of their own (Photoshop, mozjpeg).

    Raises:
        JpegFormatError: a component names a table that is not there.
    """
    numbers = [component.table for component in header.components[:2]]
    kinds = len(set(numbers))
    found = np.array(header.component_tables()[:kinds], dtype=np.int64).ravel()
    distances = ((_all_tables()[:, : found.size] - found) ** 2).sum(axis=1)
    nearest = int(distances.argmin())
    return QualityEstimate(nearest + 1, bool(distances[nearest] == 0))


@lru_cache(maxsize=1)
def _all_tables() -> NDArray[np.int64]:
    """Both tables of qualities 1..100, shape (100, 128)."""
    rows = [(*luma, *chroma) for luma, chroma in map(standard_tables, range(1, 101))]
    return np.array(rows, dtype=np.int64)


def _segments(data: bytes, position: int) -> Iterator[tuple[int, bytes, int]]:
    """Yield (marker, body, offset behind it) of the segments from *position*.

    Stops at nothing but the end of the data: callers leave at SOS, behind which
    there are no segments.  Markers without a body are not valid here.
    """
    while position < len(data):
        if data[position] != 0xFF:
            raise JpegFormatError(f"no marker at byte {position}")
        while data[position : position + 1] == b"\xff":  # any number of fill bytes
            position += 1
        length = int.from_bytes(data[position + 1 : position + 3], "big")
        end = position + 1 + length
        if length < 2 or end > len(data):
            raise JpegFormatError("truncated or broken segment")
        yield data[position], data[position + 3 : end], end
        position = end


def _tables(body: bytes) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yield (number, entries row by row) of the tables in a DQT segment."""
    position = 0
    while position < len(body):
        width, number = 1 + (body[position] >> 4), body[position] & 15
        stored = body[position + 1 : position + 1 + 64 * width]
        if width > 2 or len(stored) != 64 * width:
            raise JpegFormatError("broken quantisation table")
        entries = [0] * 64
        for index, place in enumerate(_ZIGZAG):
            entries[place] = int.from_bytes(stored[index * width : (index + 1) * width], "big")
        yield number, tuple(entries)
        position += 1 + 64 * width


def _header(
    frame: int,
    body: bytes,
    tables: Mapping[int, tuple[int, ...]],
    markers: tuple[int, ...],
    scan: int,
) -> JpegHeader:
    if len(body) < 6 or len(body) != 6 + 3 * body[5] or not body[5]:
        raise JpegFormatError("broken frame header")
    components = tuple(
        Component(body[at + 1] >> 4, body[at + 1] & 15, body[at + 2])
        for at in range(6, len(body), 3)
    )
    if any(not 1 <= f <= 4 for c in components for f in (c.horizontal, c.vertical)):
        raise JpegFormatError("broken sampling factors")
    return JpegHeader(
        width=int.from_bytes(body[3:5], "big"),
        height=int.from_bytes(body[1:3], "big"),
        precision=body[0],
        frame=frame,
        components=components,
        tables=tables,
        markers=markers,
        scan=scan,
    )
