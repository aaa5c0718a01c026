"""The structure of an AVIF file as libavif writes it for one opaque picture.

No pixels are decoded.  Everything that could make a decoder allocate more than
the stated size (grids, sequences, a sequence header of another size) is none of
that structure, and is refused.

Follows ISO/IEC 14496-12 (boxes), ISO/IEC 23008-12 (items), and the AV1 bitstream
specification, sections 5.3 and 5.5 (OBU and sequence headers).
"""

from __future__ import annotations

from collections.abc import Iterator

_TEMPORAL_DELIMITER, _SEQUENCE_HEADER = 2, 1
#: Frame header, tile group, frame.
_FRAMES = frozenset({3, 4, 6})

#: One AV1 image item, which is the primary one.
_ITEM_INFO = b"\0\0\0\0\0\1\0\0\0\x1ainfe\2\0\0\0\0\1\0\0av01Color\0"
_PRIMARY_ITEM = b"\0\0\0\0\0\1"
#: Offsets and lengths of 4 bytes, one item with one extent.
_LOCATION = b"\0\0\0\0\x44\0\0\1\0\1\0\0\0\1"
_PROPERTIES = frozenset({b"ispe", b"pixi", b"av1C", b"colr"})


class AvifFormatError(ValueError):
    """The data are not a whole AVIF file of this kind; the message says why."""


def picture_size(data: bytes) -> tuple[int, int]:
    """Return width and height of the picture in *data*, an AVIF file and all of it.

    Raises:
        AvifFormatError: another format or structure, cut, or extended.
    """
    if data[4:12] != b"ftypavif":
        raise AvifFormatError("not an AVIF")
    (_, meta_start, meta_end), (_, start, end) = _expect(
        data, 0, len(data), (b"ftyp", b"meta", b"mdat")
    )[1:]
    size = _declared_size(data, meta_start, meta_end, start, end)
    if _coded_size(data[start:end]) != size:
        raise AvifFormatError("the sizes in its headers differ")
    return size


def _declared_size(
    data: bytes, meta_start: int, meta_end: int, start: int, end: int
) -> tuple[int, int]:
    """Return the size that the metadata state, once they describe just this picture."""
    if data[meta_start : meta_start + 4] != bytes(4):
        raise AvifFormatError("unknown version of its metadata")
    names = (b"hdlr", b"pitm", b"iloc", b"iinf", b"iprp")
    boxes = _expect(data, meta_start + 4, meta_end, names)
    contents = {name: data[first:last] for name, first, last in boxes}
    location = _LOCATION + start.to_bytes(4, "big") + (end - start).to_bytes(4, "big")
    if (
        contents[b"pitm"] != _PRIMARY_ITEM
        or contents[b"iinf"] != _ITEM_INFO
        or contents[b"iloc"] != location
    ):
        raise AvifFormatError("not one single picture")
    _, first, last = boxes[-1]
    (_, first, last), _ = _expect(data, first, last, (b"ipco", b"ipma"))
    properties = list(_boxes(data, first, last))
    sizes = [data[first:last] for name, first, last in properties if name == b"ispe"]
    if not {name for name, _, _ in properties} <= _PROPERTIES or [len(s) for s in sizes] != [12]:
        raise AvifFormatError("unexpected properties of the picture")
    return int.from_bytes(sizes[0][4:8], "big"), int.from_bytes(sizes[0][8:12], "big")


def _expect(
    data: bytes, start: int, end: int, names: tuple[bytes, ...]
) -> list[tuple[bytes, int, int]]:
    found = list(_boxes(data, start, end))
    if tuple(name for name, _, _ in found) != names:
        raise AvifFormatError("not the structure that this codec writes")
    return found


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield (type, start and end of the content) of boxes that fill *start* to *end*."""
    while start < end:
        size = int.from_bytes(data[start : start + 4], "big")
        if size < 8 or start + size > end:
            raise AvifFormatError("truncated or broken box")
        yield data[start + 4 : start + 8], start + 8, start + size
        start += size


def _coded_size(stream: bytes) -> tuple[int, int]:
    """Return the size in the sequence header of an AV1 stream that has just one."""
    kinds = []
    size = (0, 0)
    for kind, content in _obus(stream):
        kinds.append(kind)
        if kind == _SEQUENCE_HEADER:
            size = _sequence_size(content)
    head = kinds[:1] if kinds[:1] == [_TEMPORAL_DELIMITER] else []
    rest = kinds[len(head) :]
    if rest[:1] != [_SEQUENCE_HEADER] or not rest[1:] or not set(rest[1:]) <= _FRAMES:
        raise AvifFormatError("not one AV1 still picture")
    return size


def _obus(stream: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and content of the open bitstream units that fill *stream*."""
    position = 0
    while position < len(stream):
        header = stream[position]
        # Forbidden bit and extension off, size field on, reserved bit off.
        if header & 0b1000_0111 != 0b10:
            raise AvifFormatError("unexpected unit in the AV1 stream")
        size, position = _leb128(stream, position + 1)
        if position + size > len(stream):
            raise AvifFormatError("truncated AV1 stream")
        yield header >> 3, stream[position : position + size]
        position += size


def _leb128(stream: bytes, position: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(stream[position : position + 5]):
        value |= (byte & 127) << 7 * index
        if byte < 128:
            return value, position + index + 1
    raise AvifFormatError("truncated AV1 stream")


def _sequence_size(header: bytes) -> tuple[int, int]:
    """Return width and height from a reduced still-picture sequence header."""
    bits = int.from_bytes(header[:8].ljust(8, b"\0"), "big")
    position = 64

    def take(count: int) -> int:
        nonlocal position
        position -= count
        return bits >> position & ((1 << count) - 1)

    take(3)  # profile
    if take(2) != 0b11:  # still_picture, reduced_still_picture_header
        raise AvifFormatError("not one AV1 still picture")
    take(5)  # level
    width_bits, height_bits = take(4) + 1, take(4) + 1
    return take(width_bits) + 1, take(height_bits) + 1
