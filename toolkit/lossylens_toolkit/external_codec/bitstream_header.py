"""What a bitstream says beside the coded picture; usually nothing, in no bytes.

The coded stream begins with a start code, whose first byte is zero, and states its
own size, chroma format and depth.  A header stands before it only where more must be
known: one byte of flags, which is not zero, and then what the flags announce.

=====  ==========================================================================
bits   meaning
=====  ==========================================================================
0..1   matrix: 0 BT.709, 1 BT.601, 2 none (RGB)
2      limited range
3      the codes have 10 bits
4      the picture is smaller than what was coded: width and height follow, each
       as LEB128
5      the CRC-32 of all but itself follows, big-endian
6..7   0 in this version of the format
=====  ==========================================================================

So at the default settings the rate is that of the encoder's own file, as in
published results.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from lossylens.errors import BitstreamError

from lossylens_toolkit.external_codec.yuv import Conversion

_MATRICES = ("bt709", "bt601", "rgb")
_LIMITED, _DEEP, _CROPPED, _CHECKED = 4, 8, 16, 32


@dataclass(frozen=True, slots=True)
class BitstreamHeader:
    """What is needed to show a coded picture as it was.

    Attributes:
        conversion: how its codes became of RGB.
        size: width and height where more was coded, for padding; else None.
    """

    conversion: Conversion
    size: tuple[int, int] | None = None


def wrap(header: BitstreamHeader, stream: bytes, *, checked: bool) -> bytes:
    """Return the bitstream of *stream*, which begins with a start code.

    Args:
        header: about the stream.
        stream: the encoder's file.
        checked: protect all of it by a CRC-32; for decoders that show no damage.
    """
    conversion = header.conversion
    flags = _MATRICES.index(conversion.matrix)
    flags |= _LIMITED * (not conversion.full_range) | _DEEP * (conversion.depth == 10)
    flags |= _CROPPED * (header.size is not None) | _CHECKED * checked
    head = bytes([flags]) if flags else b""
    for side in header.size or ():
        head += _leb128(side)
    if checked:
        stream = zlib.crc32(head + stream).to_bytes(4, "big") + stream
    return head + stream


def unwrap(bitstream: bytes) -> tuple[BitstreamHeader, bytes]:
    """Return header and coded stream of a bitstream.

    Raises:
        BitstreamError: cut, damaged, or of a later version.
    """
    if not bitstream:
        raise BitstreamError("the bitstream is empty")
    flags = bitstream[0]
    if flags >= 64 or flags & 3 == 3:
        raise BitstreamError("not a bitstream of this codec, or of a later version")
    position = 1 if flags else 0
    size = None
    if flags & _CROPPED:
        width, position = _read_leb128(bitstream, position)
        height, position = _read_leb128(bitstream, position)
        size = (width, height)
    stream = bitstream[position:]
    if flags & _CHECKED:
        stream = stream[4:]
        expected = bitstream[position : position + 4]
        if zlib.crc32(bitstream[:position] + stream).to_bytes(4, "big") != expected:
            raise BitstreamError("the bitstream is cut or damaged: its checksum is wrong")
    depth = 10 if flags & _DEEP else 8
    return BitstreamHeader(
        Conversion(_MATRICES[flags & 3], not flags & _LIMITED, depth), size
    ), stream


def _leb128(value: int) -> bytes:
    coded = bytearray()
    while value > 127:
        coded.append(value & 127 | 128)
        value >>= 7
    return bytes([*coded, value])


def _read_leb128(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(data[position : position + 3]):
        value |= (byte & 127) << 7 * index
        if byte < 128:
            return value, position + index + 1
    raise BitstreamError("the bitstream is cut or damaged: its header has no end")
