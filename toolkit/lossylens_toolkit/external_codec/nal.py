"""What an HEVC or VVC byte stream says of itself, read before anything is decoded.

Only streams of one picture with one sequence parameter set are accepted, so that a
decoder allocates for the size that was checked and writes one frame.

Follows ITU-T H.265 and H.266: Annex B (byte stream), 7.3.1 (NAL units), 7.3.2 and
7.3.3 (parameter sets, profile and level).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lossylens.errors import BitstreamError

_SUBSAMPLINGS = {1: "4:2:0", 3: "4:4:4"}
_CHROMA_STEPS = {0: (1, 1), 1: (2, 2), 2: (2, 1), 3: (1, 1)}

#: H.266: number of flags of general_constraints_info() before its extension.
_VVC_CONSTRAINT_BITS = 71


@dataclass(frozen=True, slots=True)
class CodedPicture:
    """The only picture of a stream.

    Attributes:
        width, height: of what a decoder puts out.
        subsampling: ``"4:4:4"`` or ``"4:2:0"``.
        depth: bits per sample of luma inside the codec; None where the part that
            states it is not read (VVC).
    """

    width: int
    height: int
    subsampling: str
    depth: int | None = None


class NoPictureError(BitstreamError):
    """The stream ends before its picture begins."""


def read_hevc(stream: bytes) -> CodedPicture:
    """Return what the parameter set of an HEVC stream states.

    Raises:
        NoPictureError: an HEVC byte stream without its picture.
        BitstreamError: not an HEVC byte stream of one picture in 4:4:4 or 4:2:0.
    """
    kinds = [(unit[0] >> 1 & 63, unit) for unit in _units(stream)]
    # The first bit of a slice tells whether it is the first of its picture.
    pictures = sum(kind < 32 and unit[2] >> 7 for kind, unit in kinds)
    return _only(pictures, [unit for kind, unit in kinds if kind == 33], _hevc_size)


def read_vvc(stream: bytes) -> CodedPicture:
    """Return what the parameter set of a VVC stream states.

    Raises:
        NoPictureError: a VVC byte stream without its picture.
        BitstreamError: not a VVC byte stream of one picture in 4:4:4 or 4:2:0.
    """
    kinds = [(unit[1] >> 3, unit) for unit in _units(stream)]
    # A picture header is in a unit of its own (19), or in the picture's only slice,
    # whose first bit says so.
    pictures = sum(kind == 19 or (kind < 12 and unit[2] >> 7) for kind, unit in kinds)
    return _only(pictures, [unit for kind, unit in kinds if kind == 15], _vvc_size)


class _Bits:
    """Reads fields of a payload, most significant bit first."""

    def __init__(self, data: bytes) -> None:
        self._length = 8 * len(data)
        self._value = int.from_bytes(data, "big")
        self.position = 0

    def take(self, count: int) -> int:
        """Return an unsigned field of *count* bits, u(n)."""
        self.position += count
        if self.position > self._length:
            raise BitstreamError("the bitstream is damaged: its parameter set is cut")
        return self._value >> (self._length - self.position) & ((1 << count) - 1)

    def golomb(self) -> int:
        """Return an Exp-Golomb field, ue(v)."""
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > 32:
                raise BitstreamError("the bitstream is damaged: broken parameter set")
        return (1 << zeros) - 1 + self.take(zeros)

    def align(self) -> None:
        """Go on to the next byte."""
        self.take(-self.position % 8)


def _units(stream: bytes) -> list[bytes]:
    """Return the NAL units of a byte stream that begins with a start code."""
    if not stream.startswith((b"\0\0\1", b"\0\0\0\1")):
        raise BitstreamError("not a bitstream of this codec: no start code")
    units = [unit.rstrip(b"\0") for unit in stream.split(b"\0\0\1")[1:]]
    if min(map(len, units)) < 3 or any(unit[0] & 128 for unit in units):
        raise BitstreamError("the bitstream is cut or damaged: broken NAL unit")
    return units


def _only(pictures: int, sets: list[bytes], size: Callable[[_Bits], CodedPicture]) -> CodedPicture:
    if not pictures:
        raise NoPictureError("the bitstream is cut or damaged: there is no picture in it")
    if pictures != 1 or len(sets) != 1:
        raise BitstreamError("the bitstream is cut or damaged: not one picture")
    payload = sets[0][2:].replace(b"\0\0\3", b"\0\0")  # without emulation prevention
    return size(_Bits(payload[:1024]))


def _hevc_size(bits: _Bits) -> CodedPicture:
    bits.take(4)  # video parameter set
    sublayers = bits.take(3)
    bits.take(1 + 88 + 8)  # nesting; profile, level
    present = [(bits.take(1), bits.take(1)) for _ in range(sublayers)]
    if sublayers:
        bits.take(2 * (8 - sublayers))
    for profile, level in present:
        bits.take(88 * profile + 8 * level)
    bits.golomb()  # number of this set
    chroma = bits.golomb()
    separate = chroma == 3 and bits.take(1)
    if separate:
        raise BitstreamError("the bitstream is damaged: separate colour planes")
    width, height = _cropped(bits, chroma)
    depth = 8 + bits.golomb()
    return CodedPicture(width, height, _SUBSAMPLINGS[chroma], depth)


def _vvc_size(bits: _Bits) -> CodedPicture:
    bits.take(4 + 4)  # number of this set, video parameter set
    sublayers = bits.take(3)
    chroma = bits.take(2)
    bits.take(2)  # size of coding tree units
    if bits.take(1):
        _skip_vvc_profile(bits, sublayers)
    bits.take(1)  # gradual decoding refresh
    if bits.take(1):  # reference picture resampling
        bits.take(1)
    width, height = _cropped(bits, chroma)
    return CodedPicture(width, height, _SUBSAMPLINGS[chroma])


def _skip_vvc_profile(bits: _Bits, sublayers: int) -> None:
    bits.take(7 + 1 + 8 + 1 + 1)  # profile, tier, level, frame only, multilayer
    if bits.take(1):
        bits.take(_VVC_CONSTRAINT_BITS)
        bits.take(bits.take(8))
    bits.align()
    present = [bits.take(1) for _ in range(sublayers)]
    bits.align()
    bits.take(8 * sum(present))
    bits.take(32 * bits.take(8))  # sub-profiles


def _cropped(bits: _Bits, chroma: int) -> tuple[int, int]:
    """Read the coded size and the conformance window; return what is left of the size."""
    if chroma not in _SUBSAMPLINGS:
        raise BitstreamError("the bitstream is damaged: neither 4:4:4 nor 4:2:0")
    width, height = bits.golomb(), bits.golomb()
    if bits.take(1):
        left, right, top, bottom = (bits.golomb() for _ in range(4))
        if left or top:
            raise BitstreamError("the bitstream is damaged: cropped on the left or above")
        step_x, step_y = _CHROMA_STEPS[chroma]
        width, height = width - step_x * right, height - step_y * bottom
    if width < 1 or height < 1:
        raise BitstreamError("the bitstream is damaged: it states no size")
    return width, height
