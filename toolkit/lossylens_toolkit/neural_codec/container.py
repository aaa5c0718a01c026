"""The bitstream of a learned codec: a header of about 15 bytes and two strings.

====== ==============================================================
bytes  content
====== ==============================================================
1      0xC0 + format version, + 0x08 for a probability model in float64
2      CRC-16 of all that follows
2      CRC-16 of ``codec/level``
2      lower half of the CRC-32 of the probability tables
2      lower half of the CRC-32 of the symbols and their contexts
1 to 4 width, then height, then length of the string of z, as LEB128
rest   the string of z, the string of y
====== ==============================================================

Version 2 has side information before the string of z, whose length the codec tells from its
beginning; a bitstream without any is of version 1.

Numbers are little-endian.  The checksum of the symbols is that of what the encoder
coded: where the decoder, by other rounding of its probability model, takes another
table than the encoder did, it finds other symbols, and the checksum says so.

Decoders that begin with noise draw it from a generator of the picture's own: NumPy's
PCG64, seeded with :func:`noise_seed`, gives standard normal numbers in float64, which are
rounded to float32, first for the latent to begin with, then for each step of the sampler
but the last.  This rule belongs to the format version.
"""

from __future__ import annotations

import binascii
import struct
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lossylens.errors import BitstreamError

VERSION = 1
#: With side information.
SIDE_VERSION = 2

_MARK = 0xC0
_FLOAT64 = 0x08
_FIXED = struct.Struct("<HHHH")
_LONGEST = 4


@dataclass(frozen=True)
class Content:
    """What a bitstream holds.

    Attributes:
        level: ``codec/level``; only its checksum is stored.
        width: of the picture.
        height: of the picture.
        tables: checksum of the probability tables; the lower half is stored.
        symbols: checksum of the symbols; the lower half is stored.
        float64: whether the probability model was in float64.
        z: string of the hyper latents.
        y: string of the latents.
        side: side information, such as the levels of parts of the picture; ``b""`` for none.
    """

    level: str
    width: int
    height: int
    tables: int
    symbols: int
    float64: bool
    z: bytes
    y: bytes
    side: bytes = b""


def pack(content: Content) -> bytes:
    """Return the bitstream of *content*."""
    numbers = b"".join(map(_number, (content.width, content.height, len(content.z))))
    checksums = struct.pack(
        "<HHH", _identity(content.level), content.tables & 0xFFFF, content.symbols & 0xFFFF
    )
    body = checksums + numbers + content.side + content.z + content.y
    version = SIDE_VERSION if content.side else VERSION
    first = _MARK | version | (_FLOAT64 if content.float64 else 0)
    return bytes([first]) + struct.pack("<H", binascii.crc_hqx(body, 0)) + body


def unpack(
    bitstream: bytes,
    level: str,
    others: Iterable[str],
    max_pixels: int,
    side_length: Callable[[bytes], int] | None = None,
) -> Content:
    """Return what *bitstream* holds.

    Args:
        bitstream: of any origin.
        level: ``codec/level`` that is expected.
        others: more of these, to name the one that is found instead.
        max_pixels: size of the largest picture that is admitted.
        side_length: returns the length of side information, given what begins with it, and
            raises :class:`~lossylens.errors.BitstreamError` for what begins with none; None
            for a codec without.

    Raises:
        BitstreamError: it is damaged, too large, of another format version, or of
            another codec or level.
    """
    if len(bitstream) < 1 + _FIXED.size or bitstream[0] & 0xF0 != _MARK:
        raise BitstreamError("not a bitstream of a learned codec")
    version = bitstream[0] & 0x07
    if version not in ((VERSION, SIDE_VERSION) if side_length else (VERSION,)):
        raise BitstreamError(f"of format version {version}; this is version {VERSION}")
    crc, identity, tables, symbols = _FIXED.unpack_from(bitstream, 1)
    if crc != binascii.crc_hqx(bitstream[3:], 0):
        raise BitstreamError("damaged or truncated: its checksum is wrong")
    if identity != _identity(level):
        found = next((other for other in others if _identity(other) == identity), None)
        raise BitstreamError(f"of {found or 'another codec or level'}; this is {level}")
    position, (width, height, length) = _numbers(bitstream, 1 + _FIXED.size, 3)
    if not 0 < width * height <= max_pixels:
        raise BitstreamError(
            f"claims {width}x{height} pixels; at most {max_pixels} are admitted (option max_pixels)"
        )
    end = position
    if side_length and version == SIDE_VERSION:
        end += side_length(bitstream[position:])
    side, position = bitstream[position:end], end
    if length > len(bitstream) - position:
        raise BitstreamError("damaged: a string is longer than the bitstream")
    strings = bitstream[position : position + length], bitstream[position + length :]
    float64 = bool(bitstream[0] & _FLOAT64)
    return Content(level, width, height, tables, symbols, float64, *strings, side)


def noise_seed(content: Content) -> int:
    """Return the seed of a picture's noise: the CRC-32 of the string of z, then that of y."""
    return zlib.crc32(content.y, zlib.crc32(content.z))


def _identity(level: str) -> int:
    return binascii.crc_hqx(level.encode(), 0)


def _number(value: int) -> bytes:
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def _numbers(bitstream: bytes, position: int, count: int) -> tuple[int, list[int]]:
    """Return the position behind *count* numbers, and the numbers."""
    values = []
    for _ in range(count):
        part = bitstream[position : position + _LONGEST]
        size = next((i for i, byte in enumerate(part, 1) if byte < 0x80), 0)
        if not size:
            raise BitstreamError("damaged: a number in its header does not end")
        values.append(sum((byte & 0x7F) << 7 * i for i, byte in enumerate(part[:size])))
        position += size
    return position, values
