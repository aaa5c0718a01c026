"""The image path: from a file, or a bitstream, to the pixels that a VLM is given.

A VLM gets exactly the pixels that the decoder returned; nothing is encoded again
on the way, and an ``uncompressed`` image is the source image itself.

With ``run.evaluator_parity`` the path is that of the published scores instead.
Their evaluator saved every image of a benchmark as a JPEG (quality 75, 4:2:0)
before the model read it.  The codecs were run on these files, and their output
was saved once more under the same name, and so again as such a JPEG:

* uncompressed: source, JPEG step, VLM;
* compressed: source, JPEG step, codec, JPEG step, VLM.

Rates stay those of the codec's own bitstream.  One benchmark departs from this:
MME names its files itself, so those that are no JPEGs skip the steps there, and
here they do not.

A codec may be given squares in place of images (:class:`~lossylens.codec.Square`); they are
made behind the evaluator's first step, and the VLM is given the square that was decoded.
"""

from __future__ import annotations

from PIL.Image import Image, Resampling, new

from lossylens.codec import Codec, Square
from lossylens.errors import BitstreamError, ImageError
from lossylens.images import MAX_PIXELS, evaluator_parity, read_image


def source_image(data: bytes, *, parity: bool, square: Square | None = None) -> Image:
    """Return what a codec encodes: the content of an image file, as RGB.

    Raises:
        ImageError: see :func:`~lossylens.images.read_image` and :func:`squared`.
    """
    image = read_image(data)
    image = evaluator_parity(image) if parity else image
    return image if square is None else squared(image, square)


def squared(image: Image, square: Square) -> Image:
    """Return an RGB image as a square, scaled as CLIP's preprocessing scales (bicubic).

    Raises:
        ImageError: it is so long and narrow that the square has too many pixels.
    """
    width, height = image.size
    if square.fit != "squash" and width != height:
        side = max(width, height) if square.fit == "pad" else min(width, height)
        if side * side > MAX_PIXELS:
            raise ImageError(f"{width}x{height} becomes a square of more than {MAX_PIXELS} pixels")
        # Pasted outside the canvas, what is too much is cut off; rounded as CLIP's crop is.
        canvas = new("RGB", (side, side), square.border)
        canvas.paste(image, (int((side - width) / 2), int((side - height) / 2)))
        image = canvas
    side = square.side
    return image if image.size == (side, side) else image.resize((side, side), Resampling.BICUBIC)


def coded_size(size: tuple[int, int], square: Square | None) -> tuple[int, int]:
    """Return the size in which an image of *size* is coded."""
    return size if square is None else (square.side, square.side)


def decoded_image(codec: Codec, bitstream: bytes, size: tuple[int, int], *, parity: bool) -> Image:
    """Return what a VLM is given of a bitstream.

    Args:
        codec: at the level of the bitstream.
        bitstream: of one image.
        size: width and height in which it was coded.
        parity: repeat the evaluator's second JPEG step.

    Raises:
        BitstreamError: it is damaged, or the decoder gave no RGB image of *size*.
        TypeError: the decoder gave no image at all.
    """
    smaller = not codec.keeps_size
    return given_image(codec.decode(bitstream), size, parity=parity, smaller=smaller)


def given_image(
    decoded: object, size: tuple[int, int], *, parity: bool, smaller: bool = False
) -> Image:
    """Return what a VLM is given of what a decoder returned.

    Args:
        decoded: what it returned.
        size: width and height of the original image.
        parity: repeat the evaluator's second JPEG step.
        smaller: whether it may be smaller; see :attr:`~lossylens.codec.Codec.keeps_size`.

    Raises:
        BitstreamError, TypeError: see :func:`decoded_image`.
    """
    if not isinstance(decoded, Image):
        raise TypeError(f"the decoder returned {decoded!r:.40} instead of an image")
    fits = smaller and decoded.width <= size[0] and decoded.height <= size[1]
    if decoded.mode != "RGB" or not (fits or decoded.size == size):
        found = f"{decoded.mode} {decoded.width}x{decoded.height}"
        raise BitstreamError(f"the decoder returned {found}, not RGB {size[0]}x{size[1]}")
    return evaluator_parity(decoded) if parity else decoded
