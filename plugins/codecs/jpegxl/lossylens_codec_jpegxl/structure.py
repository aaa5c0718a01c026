"""The size that a bare JPEG XL codestream states; no pixels are decoded.

Follows ISO/IEC 18181-1, SizeHeader, whose fields are packed with the least
significant bit first.
"""

from __future__ import annotations

from fractions import Fraction

_SIGNATURE = b"\xff\x0a"

#: Bits of a side, by selector.
_SIDE_BITS = (9, 13, 18, 30)

#: Width over height, by number; 0 is stated otherwise.
_RATIOS = (
    None,
    Fraction(1),
    Fraction(12, 10),
    Fraction(4, 3),
    Fraction(3, 2),
    Fraction(16, 9),
    Fraction(5, 4),
    Fraction(2),
)


class JpegxlFormatError(ValueError):
    """The data are not a bare JPEG XL codestream; the message says why."""


def picture_size(data: bytes) -> tuple[int, int]:
    """Return width and height that the codestream *data* states.

    Raises:
        JpegxlFormatError: another format, or cut.
    """
    if data[:2] != _SIGNATURE:
        raise JpegxlFormatError("not a bare JPEG XL codestream")
    # The longest size takes 68 bits.
    if len(data) < 12:
        raise JpegxlFormatError("cut: shorter than its header")
    bits = int.from_bytes(data[2:12], "little")

    def take(count: int) -> int:
        nonlocal bits
        value = bits & ((1 << count) - 1)
        bits >>= count
        return value

    small = take(1)

    def side() -> int:
        return 8 * (take(5) + 1) if small else take(_SIDE_BITS[take(2)]) + 1

    height = side()
    ratio = _RATIOS[take(3)]
    width = side() if ratio is None else height * ratio.numerator // ratio.denominator
    return width, height
