"""What runs in the decoder's own process."""

from __future__ import annotations

from lossylens.errors import ImageError
from lossylens.images import read_image
from pillow_jxl import JpegXLImagePlugin

from lossylens_codec_jpegxl.structure import picture_size

JpegXLImagePlugin.DECODE_THREADS = 0


def decode(bitstream: bytes) -> bytes:
    """Return the pixels of a codestream, three bytes each.

    Raises:
        ValueError: libjxl refuses it, or gives another size or mode.
    """
    try:
        image = read_image(bitstream, formats=("JXL",))
    except ImageError as error:
        # libjxl's own words are advice on how to build it.
        raise ValueError("cut or damaged: libjxl refuses it") from error
    if image.size != picture_size(bitstream):
        raise ValueError("cut or damaged: the decoded picture has another size")
    return image.tobytes()
