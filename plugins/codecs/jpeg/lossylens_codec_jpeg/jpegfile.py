"""The structure of a JPEG file: frame header, quantisation tables, scans.

Only markers are read, no pixels are decoded, so this is cheap and its memory
is bounded by the data.  It serves to refuse damaged bitstreams that libjpeg
would quietly fill with grey.

Follows ITU-T T.81 (ISO/IEC 10918-1), Annex B.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lossylens.images.jpeg_quality import subsampling

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
        """Chroma subsampling; see :func:`~lossylens.images.jpeg_quality.subsampling`."""
        return subsampling([(c.horizontal, c.vertical) for c in self.components])

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

    def leading_tables(self) -> list[tuple[int, ...]]:
        """Return the tables of the first two components, once where they share it.

        Raises:
            JpegFormatError: as above.
        """
        return self.component_tables()[: len({each.table for each in self.components[:2]})]


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
