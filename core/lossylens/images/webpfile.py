"""The structure of a WebP file: RIFF chunks and the size in the frame header.

No pixels are decoded; memory is bounded by the data.  Follows the WebP
container specification and RFC 6386 (VP8 data format, section 9.1); both are
joined in RFC 9649.
"""

from __future__ import annotations

from dataclasses import dataclass


class WebpFormatError(ValueError):
    """The data are not a WebP file, or not a whole one; the message says why."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A RIFF chunk: four-character code, and its content as far as it is there."""

    code: bytes
    body: bytes
    size: int

    @property
    def whole(self) -> bool:
        """Whether all the bytes that its header promises are there."""
        return len(self.body) == self.size


def chunks(data: bytes) -> list[Chunk]:
    """Return the chunks of a WebP file; the last may be cut.

    Raises:
        WebpFormatError: not a WebP file.
    """
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        raise WebpFormatError("not a WebP (no RIFF WEBP header)")
    found: list[Chunk] = []
    position = 12
    while position + 8 <= len(data):
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        body = data[position + 8 : position + 8 + size]
        found.append(Chunk(data[position : position + 4], body, size))
        position += 8 + size + size % 2
    return found


def check_whole(data: bytes) -> list[Chunk]:
    """Return the chunks of a WebP file that is neither cut nor extended.

    Raises:
        WebpFormatError: not a WebP file, or its sizes and *data* disagree.
    """
    found = chunks(data)
    if int.from_bytes(data[4:8], "little") + 8 != len(data):
        raise WebpFormatError("truncated or extended (the size in its header differs)")
    length = 12 + sum(8 + chunk.size + chunk.size % 2 for chunk in found)
    if length != len(data) or not all(chunk.whole for chunk in found):
        raise WebpFormatError("truncated or broken chunk")
    return found


def canvas_size(data: bytes) -> tuple[int, int]:
    """Return width and height in pixels of the (possibly cut) WebP file *data*.

    Raises:
        WebpFormatError: no image header is found.
    """
    for chunk in chunks(data):
        body = chunk.body
        if chunk.code == b"VP8X" and len(body) >= 10:
            width, height = (int.from_bytes(body[at : at + 3], "little") for at in (4, 7))
            return width + 1, height + 1
        if chunk.code == b"VP8L" and len(body) >= 5 and body[0] == 0x2F:
            bits = int.from_bytes(body[1:5], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        if chunk.code == b"VP8 ":
            return vp8_size(body)
    raise WebpFormatError("no image header")


def vp8_size(body: bytes) -> tuple[int, int]:
    """Return width and height in pixels of a VP8 key frame.

    Raises:
        WebpFormatError: not the start of a VP8 key frame.
    """
    if len(body) < 10 or body[0] & 1 or body[3:6] != b"\x9d\x01\x2a":
        raise WebpFormatError("no VP8 key frame")
    width, height = (int.from_bytes(body[at : at + 2], "little") & 0x3FFF for at in (6, 8))
    return width, height
