"""Decoding a JPEG file only if its entropy-coded data are whole.

libjpeg fills what is missing with grey and says so in a warning that Pillow drops; all it
needs is an end-of-image marker.  A file that lacks nothing but this marker is refused,
though every pixel is there.  Here the marker decides nothing.  libjpeg is given the data up
to the marker without it, so that it stops where data are missing, and then a few bytes more,
since it looks ahead of what it decodes: up to eight bytes.  A picture that is complete then
was whole.

Follows ITU-T T.81 (ISO/IEC 10918-1), Annexes B, F and G.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from PIL import Image, ImageFile, _imaging

from lossylens.errors import ImageError

_SOF = frozenset({0xC0, 0xC1, 0xC2})  # DCT with Huffman codes: what is checked
_OTHER_SOF = frozenset(range(0xC3, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_SOF_PROGRESSIVE, _DRI, _TEM = 0xC2, 0xDD, 0x01

#: A marker, restart markers left out; FF00 is a stuffed byte, FFFF is fill.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")

# libjpeg's look-ahead, in bytes.
_AHEAD = 8
# Bits that end a block seldom, whatever its Huffman codes are (chosen by experiment): where
# data are missing, the look-ahead is used up before the picture is complete.
_PAD = b"\xdd"
# Where there is no end-of-image marker to be trusted, pictures with these must be equal.
_PADS = (_PAD, b"\xff\x00", b"\x00", b"\xaa")
# A refinement scan may need one bit for each of a thousand coefficients (MAX_CORR_BITS of
# libjpeg's encoder) before it needs a code, which is what shows that bits are missing.
_REFINEMENT = 140
# More bytes behind the last pixel than this are no look-ahead but something else.
_SPARE = {False: 4 * _AHEAD, True: _REFINEMENT + _AHEAD}

_CUT = "the file is truncated"


@dataclass(slots=True)
class _Frame:
    """What markers say about the first picture of a file."""

    marker: int
    width: int
    height: int
    factors: Mapping[int, tuple[int, int]]
    #: By component, the lowest bit that was sent of each coefficient; 0 is all of it.
    sent: dict[int, list[int]] = field(default_factory=dict)
    interval: int = 0
    #: Components of the last scan, and offsets of its and of the first scan's data.
    scan: tuple[int, ...] = ()
    start: int = 0
    first: int = 0
    multiple: bool = False
    end: int = 0
    closed: bool = False

    @property
    def progressive(self) -> bool:
        return self.marker == _SOF_PROGRESSIVE

    def blocks(self, component: int) -> tuple[int, int]:
        """Return how many blocks of a component there are across and down."""
        horizontal, vertical = self.factors[component]
        widest, highest = (max(each) for each in zip(*self.factors.values(), strict=True))
        return (
            -(-self.width * horizontal // (8 * widest)),
            -(-self.height * vertical // (8 * highest)),
        )

    def restarts(self) -> int:
        """Return how many restart markers the last scan has."""
        if not self.interval:
            return 0
        across, down = self.blocks(self.scan[0])
        if len(self.scan) > 1:
            horizontal, vertical = self.factors[self.scan[0]]
            across, down = -(-across // horizontal), -(-down // vertical)
        return (across * down - 1) // self.interval


def load_jpeg(image: ImageFile.ImageFile, data: bytes) -> None:
    """Decode *image*, which was opened from *data*, as its ``load`` does.

    Baseline, extended and progressive files with Huffman codes are decoded only if no pixel
    is missing, with an end-of-image marker or without.  Others are left to Pillow, which
    needs the marker and takes it for granted that the data are whole.

    Raises:
        ImageError: data are missing.
        OSError: Pillow's, about broken data.
    """
    frame = _read(data)
    if frame is None or [tile.offset for tile in image.tile] != [0]:
        image.load()
        return
    missing = _missing(frame, data)
    if missing:
        raise ImageError(f"{_CUT}: {missing}")
    image.load_prepare()
    view = memoryview(data)
    if not _decode(image, image.tile[0], view[: frame.end], frame, _PAD):
        raise ImageError(f"{_CUT}: its data end before the last pixel")
    tile, image.tile = image.tile[0], []
    if not frame.closed and not _ends_there(image, tile, view, frame):
        raise ImageError(f"{_CUT}: its data do not end with the last pixel")


def _read(data: bytes) -> _Frame | None:
    """Walk through the markers; None if they are not those of a file that can be checked."""
    frame: _Frame | None = None
    interval = position = 0
    while True:
        found = _MARKER.search(data, position or 2)
        if found is None:
            break
        marker, position = data[found.end() - 1], found.end()
        if marker in (_EOI, _SOI):
            if frame is None or not frame.scan:
                return None
            frame.end, frame.closed = found.start(), marker == _EOI
            return frame
        if marker == _TEM:
            continue
        body = data[position + 2 : position + int.from_bytes(data[position : position + 2], "big")]
        position += 2 + len(body)
        if marker in _OTHER_SOF or (marker in _SOF and frame):
            return None
        if marker in _SOF:
            frame = _frame(marker, body)
            if frame is None:
                return None
        elif marker == _DRI:
            interval = int.from_bytes(body[:2], "big")
        elif marker == _SOS:
            if frame is None or not _add_scan(frame, body, position):
                return None
            frame.interval = interval
    if frame is not None and frame.scan:
        # Half a marker, or half a stuffed byte, is none.
        frame.end = len(data.rstrip(b"\xff"))
        return frame
    return None


def _frame(marker: int, body: bytes) -> _Frame | None:
    if len(body) < 6 or len(body) != 6 + 3 * body[5] or not body[5]:
        return None
    factors = {body[at]: (body[at + 1] >> 4, body[at + 1] & 15) for at in range(6, len(body), 3)}
    if not all(1 <= factor <= 4 for both in factors.values() for factor in both):
        return None
    width, height = int.from_bytes(body[3:5], "big"), int.from_bytes(body[1:3], "big")
    return _Frame(marker, width, height, factors)


def _add_scan(frame: _Frame, body: bytes, start: int) -> bool:
    """Note what a scan sends; False if its header is broken."""
    count = body[0] if body else 0
    components = tuple(body[1 : 1 + 2 * count : 2])
    if not count or len(body) != 4 + 2 * count or not set(components) <= frame.factors.keys():
        return False
    low, high, bits = body[-3], body[-2], body[-1] & 15
    if not frame.progressive:
        low, high, bits = 0, 63, 0
    if not low <= high <= 63:
        return False
    for component in components:
        sent = frame.sent.setdefault(component, [16] * 64)
        sent[low : high + 1] = [bits] * (high + 1 - low)
    frame.first = frame.first or start
    frame.multiple = frame.progressive or count < len(frame.factors)
    frame.scan, frame.start = components, start
    return True


def _missing(frame: _Frame, data: bytes) -> str:
    """Return what the markers show to be missing, before anything is decoded or allocated."""
    blocks = sum(across * down for across, down in map(frame.blocks, frame.factors))
    # The shortest Huffman code has a bit: one for each block's DC coefficient and, where they
    # are in the same scan, another that ends its AC coefficients.
    least = blocks * (1 if frame.progressive else 2) // 8
    found = frame.end - frame.first
    if found < least:
        return f"{frame.width}x{frame.height} pixels need at least {least} bytes, {found} are there"
    if any(any(frame.sent.get(component, [16])) for component in frame.factors):
        return "scans are missing"
    restarts = frame.restarts()
    if restarts and _restarts(data, frame.start, frame.end) < restarts:
        return "its data end before the last restart marker"
    return ""


def _decode(
    image: Image.Image, tile: ImageFile._Tile, data: memoryview, frame: _Frame, pad: bytes
) -> bool:
    """Decode into *image* from *data*, which end before the marker; False if they do not do."""
    decoder = _imaging.jpeg_decoder(image.mode, *cast(tuple[str, ...], tile.args))
    try:
        decoder.setimage(image.im, tile.extents)
        more = [pad] * (_REFINEMENT if frame.progressive else 1) if frame.multiple else []
        rest = b""
        for number, piece in enumerate((data, pad * _AHEAD, *more)):
            given = rest + bytes(piece) if rest else piece
            done, error = decoder.decode(given)
            if done < 0:
                return _finished(error)
            rest = bytes(given[done:])
            if rest and number:
                return False  # libjpeg waits for more
        if not frame.multiple:
            return False
        # All is read, and what is not needed was passed over; only now are pixels made.
        done, error = decoder.decode(b"\xff\xd9")
        return done < 0 and _finished(error)
    finally:
        decoder.cleanup()


def _finished(error: int) -> bool:
    if error < 0:
        raise OSError("broken data stream")
    return True


def _ends_there(image: Image.Image, tile: ImageFile._Tile, data: memoryview, frame: _Frame) -> bool:
    """Whether the data without end-of-image marker end where the picture does.

    No pixel may depend on what libjpeg sees behind them, and little may be left behind the
    last pixel: a file may be cut and filled up.
    """

    def independent(end: int) -> bool:
        for pad in _PADS:
            other = Image.new(image.mode, image.size)
            try:
                whole = _decode(other, tile, data[:end], frame, pad)
            except OSError:
                return False
            if not whole or other.tobytes() != image.tobytes():
                return False
        return True

    end = frame.end
    if not independent(end) or len(set(data[end - _AHEAD : end])) == 1:
        return False
    shorter = end - _SPARE[frame.progressive]
    return (
        shorter <= frame.start
        or _restarts(data, frame.start, shorter) < frame.restarts()
        or not independent(shorter)
    )


def _restarts(data: bytes | memoryview, start: int, end: int) -> int:
    return len(_RESTART.findall(data, start, end))
