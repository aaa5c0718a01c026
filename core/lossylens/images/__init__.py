"""How image files enter: bytes to RGB pixels, and what the file was before.

What the field does with a benchmark's files decides what we do, because a
different reading moves scores before any codec has run.  The reference is
VLMEvalKit (``vlmeval/smp/vlm.py``), whose ``decode_base64_to_image`` opens the
file with Pillow, converts modes RGBA, P and LA with ``convert("RGB")`` and saves
the rest as it is:

* Transparency is dropped, not blended: a transparent pixel shows whatever
  colour is stored below it.  (``qwen_vl_utils`` and later releases of
  Transformers blend over white, but they only ever see the evaluator's opaque
  files.)
* EXIF orientation is ignored, and since Pillow does not copy EXIF into the file
  that the evaluator saves, the model's own loader has nothing left to apply.
  :func:`read_image` therefore does not rotate unless ``apply_orientation`` is
  set, as it should be for a user's own photographs.  TIFF is the exception:
  Pillow itself rotates it when it loads.
* Colour profiles are ignored; CMYK is converted without one.  Pillow takes all
  CMYK JPEGs to be inverted, as Adobe writes them.
* Of an animation the first frame is taken.

The evaluator fails on grey images with more than 8 bits (JPEG cannot store
them), and Pillow's own ``convert("RGB")`` clips them to the lowest 256 values,
which turns nearly everything white.  They are scaled here: 16 bits by keeping
the high byte, which is also what Pillow does to 16-bit colour.

Files are hostile until proven otherwise: only :data:`FORMATS` are tried, the size
in the header is checked before any pixel is decoded, and whatever goes wrong
becomes an :class:`~lossylens.errors.ImageError`.  A file is whole if no pixel of its
(first) picture is missing: one that was cut behind the last pixel, as without JPEG's
end-of-image marker or PNG's last chunks, is read; one whose data end before it is refused,
whatever follows there (:mod:`.jpegscans`, :mod:`.pngrows`).  Settings
that other libraries change in Pillow do not loosen this: truncated files are refused even
where ``ImageFile.LOAD_TRUNCATED_IMAGES`` is set, and the limit on pixels holds whatever
``Image.MAX_IMAGE_PIXELS`` says (a lower value there still refuses).
"""

from __future__ import annotations

import hashlib
import io
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, JpegImagePlugin, TiffImagePlugin, UnidentifiedImageError

from lossylens.errors import ImageError
from lossylens.images import jpegscans, pngrows, webpfile
from lossylens.images.jpeg_quality import estimate_quality, subsampling

#: Formats that are tried, by Pillow's names.  MPO (several JPEGs in one) is
#: found by JPEG; PPM covers PBM, PGM, PNM and PFM.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")

#: Largest number of pixels that is decoded, the number from which Pillow
#: refuses by default; decoding that many takes about 1 GiB.
MAX_PIXELS = 178_956_970

_ORIENTATION_TAG = 0x0112
_BITS_PER_SAMPLE_TAG = 258

#: EXIF orientation to the transposition that shows the picture upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(
    data: bytes,
    *,
    max_pixels: int = MAX_PIXELS,
    apply_orientation: bool = False,
    formats: Sequence[str] = FORMATS,
) -> Image.Image:
    """Decode an image file to RGB, without metadata; see the module for the rules.

    Samples of integer or float images whose range the file does not state are
    taken to span the smallest of 0..1 (float only), 0..255 and 0..65535 that
    holds all of them.

    Args:
        data: content of the file.
        max_pixels: more pixels than this are refused by the header.
        apply_orientation: rotate and mirror as the EXIF orientation says.
        formats: Pillow's names of the formats to try.

    Raises:
        ImageError: not an image of these formats, truncated, damaged, too large,
            or of a sample range that cannot be told.
    """
    image = _open(data, max_pixels, formats)
    try:
        with _strict_loading():
            # Pillow reads a TIFF's directory, and warns about it, once more.
            with _no_warnings() if image.format == "TIFF" else nullcontext():
                if image.format in {"JPEG", "MPO"}:
                    jpegscans.load_jpeg(image, data)
                elif image.format == "PNG":
                    pngrows.load_png(image, data)
                else:
                    image.load()
            turn = _UPRIGHT.get(_orientation(image)) if apply_orientation else None
            rgb = _to_rgb(image)
            return rgb if turn is None else rgb.transpose(turn)
    except ImageError:
        raise
    except Exception as error:  # Pillow raises nearly anything on hostile files
        raise ImageError(f"cannot decode the {image.format} image: {_reason(error)}") from error


def plain_rgb(image: Image.Image) -> Image.Image:
    """Return a copy of an RGB image that has pixels only.

    Encoders of Pillow copy some of ``image.info`` (the comment, say) into the
    bitstream, where it would count into the rate.

    Raises:
        ImageError: the image is empty or its mode is not RGB.
    """
    if image.mode != "RGB":
        raise ImageError(f"an RGB image is needed, not one of mode {image.mode}")
    if 0 in image.size:
        raise ImageError("the image has no pixels")
    copy = image.convert("RGB")  # a copy, of the plain class
    copy.info = {}
    return copy


def evaluator_parity(image: Image.Image) -> Image.Image:
    """Return *image* after the JPEG step of the reference evaluator.

    The evaluator on which the published scores rest saves every image as
    ``{index}.jpg`` before the model reads it, with Pillow's defaults: quality 75,
    4:2:0.  Grey files, which it saves as grey JPEGs, come out the same this way.

    Args:
        image: RGB.

    Raises:
        ImageError: a side is longer than JPEG's 65500, or the mode is not RGB.
    """
    buffer = io.BytesIO()
    try:
        plain_rgb(image).save(buffer, "JPEG", quality=75, subsampling="4:2:0")
    except (OSError, ValueError) as error:
        raise ImageError(f"cannot be saved as JPEG: {_reason(error)}") from error
    return read_image(buffer.getvalue(), max_pixels=image.width * image.height)


def content_hash(data: bytes) -> str:
    """Return the SHA-256 of *data* in hexadecimal; equal files are encoded once."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, slots=True)
class SourceFormat:
    """What an image file was before we read it.

    Recorded for every image of a benchmark, because most are second-generation
    JPEGs: a codec is then measured on what another codec has left.

    Attributes:
        format: ``"JPEG"``, ``"PNG"``, ``"WEBP"``, ``"GIF"``, ``"BMP"``, ``"TIFF"``
            or ``"PPM"``; ``"MPO"`` for JPEGs with several pictures.
        mode: Pillow's mode of the file, such as ``"RGB"`` or ``"P"``.
        bits: bits per sample (per palette index in palette files).
        width, height: in pixels, as stored.
        lossless: whether the file's own coding keeps every sample; None where
            that is not known (TIFF).
        orientation: EXIF orientation, 1..8; 1 is upright or not given.
        quality: for JPEG, the estimated quality on libjpeg's scale, 1..100.
        quality_exact: whether the tables are exactly those of that quality;
            otherwise it is the nearest.
        subsampling: for JPEG, such as ``"4:2:0"``.
        progressive: whether it is a progressive JPEG.
    """

    format: str
    mode: str
    bits: int
    width: int
    height: int
    lossless: bool | None = None
    orientation: int = 1
    quality: int | None = None
    quality_exact: bool | None = None
    subsampling: str | None = None
    progressive: bool = False

    def __str__(self) -> str:
        """Return a short form, such as ``"JPEG q75 4:2:0"`` or ``"WEBP lossy"``."""
        parts = [self.format]
        if self.quality is not None:
            parts.append(f"q{'' if self.quality_exact else '~'}{self.quality}")
        if self.subsampling is not None:
            parts.append(self.subsampling)
        if self.progressive:
            parts.append("progressive")
        if self.format == "WEBP":
            parts.append("lossless" if self.lossless else "lossy")
        return " ".join(parts)


def source_format(data: bytes, *, max_pixels: int = MAX_PIXELS) -> SourceFormat:
    """Return the format of an image file from its header; no pixel is decoded.

    Raises:
        ImageError: not an image of :data:`FORMATS`, too large, or a broken header.
    """
    image = _open(data, max_pixels, FORMATS)
    try:
        found = SourceFormat(
            format=image.format or "",
            mode=image.mode,
            bits=_sample_bits(image, data),
            width=image.width,
            height=image.height,
            lossless=_lossless(image.format, data),
            orientation=_orientation(image),
        )
        if found.format not in {"JPEG", "MPO"}:
            return found
        assert isinstance(image, JpegImagePlugin.JpegImageFile)
        numbers = dict.fromkeys(table for _, _, _, table in image.layer[:2])
        estimate = estimate_quality([image.quantization[number] for number in numbers])
        sampling = subsampling([(across, down) for _, across, down, _ in image.layer])
    except Exception as error:  # as in read_image
        raise ImageError(f"broken {image.format} header: {_reason(error)}") from error
    return replace(
        found,
        quality=estimate.quality,
        quality_exact=estimate.exact,
        subsampling=sampling,
        progressive="progressive" in image.info,
    )


def _sample_bits(image: ImageFile.ImageFile, data: bytes) -> int:
    if image.format == "PNG":
        return data[24]  # IHDR is always first
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = image.tag_v2.get(_BITS_PER_SAMPLE_TAG, (1,))
        return int(bits[0])
    if image.mode.startswith("I;16"):
        return 16
    return {"1": 1, "I": 16, "F": 32}.get(image.mode, 8)


def _lossless(name: str | None, data: bytes) -> bool | None:
    if name == "WEBP":
        return not any(chunk.code in {b"VP8 ", b"ANMF"} for chunk in webpfile.chunks(data))
    return None if name == "TIFF" else name not in {"JPEG", "MPO"}


def _open(data: bytes, max_pixels: int, formats: Sequence[str]) -> ImageFile.ImageFile:
    """Open *data* without decoding pixels and check its size."""
    if data[:4] == b"RIFF" and "WEBP" in formats:
        # Older Pillow allocates WebP's canvas already when it opens the file.
        try:
            _check_size(*webpfile.canvas_size(data), max_pixels)
        except webpfile.WebpFormatError as error:
            raise ImageError(f"not a whole WebP: {error}") from error
    try:
        with _no_warnings(), _strict_loading():
            image = Image.open(io.BytesIO(data), formats=list(formats))
    except UnidentifiedImageError as error:
        reason = f"not an intact {', '.join(formats)} file" if data else "the file is empty"
        raise ImageError(f"cannot read the image: {reason}") from error
    except Exception as error:  # Pillow raises nearly anything on hostile files
        raise ImageError(f"cannot read the image: {_reason(error)}") from error
    _check_size(image.width, image.height, max_pixels)
    return image


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise ImageError(f"the image has no pixels ({width}x{height})")
    if width * height > max_pixels:
        raise ImageError(
            f"the image claims {width}x{height} pixels, more than the limit of {max_pixels}"
        )


_warnings_lock = threading.Lock()


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Silence warnings, one thread at a time because their filters are global.

    A warning (odd metadata, many pixels) must neither reach the user nor, where
    warnings are errors, decide whether a file can be read.
    """
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


_strict_lock = threading.Lock()
_strict_users = 0
_strict_before = False


@contextmanager
def _strict_loading() -> Iterator[None]:
    """Make Pillow refuse truncated files, whatever another library has set.

    Users are counted, so that threads do not restore the setting under each
    other's feet.
    """
    global _strict_users, _strict_before
    with _strict_lock:
        if _strict_users == 0:
            _strict_before = ImageFile.LOAD_TRUNCATED_IMAGES
            ImageFile.LOAD_TRUNCATED_IMAGES = False
        _strict_users += 1
    try:
        yield
    finally:
        with _strict_lock:
            _strict_users -= 1
            if _strict_users == 0:
                ImageFile.LOAD_TRUNCATED_IMAGES = _strict_before


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 where it is absent or unreadable."""
    if image.format == "PNG" and not {"exif", "Raw profile type exif"} & image.info.keys():
        return 1  # asked for EXIF, Pillow would decode the picture to look behind it
    try:
        with _no_warnings():
            value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # a broken EXIF block says nothing about the pixels
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _to_rgb(image: ImageFile.ImageFile) -> Image.Image:
    """Convert a loaded image to RGB and drop its metadata."""
    samples = _grey_samples(image)
    if samples is not None:
        rgb = Image.fromarray(samples).convert("RGB")
    else:
        # Pillow would look for a palette entry that stands for transparency,
        # and warn where it finds none.
        image.info.pop("transparency", None)
        rgb = image.convert("RGB")
    rgb.info = {}
    return rgb


def _grey_samples(image: ImageFile.ImageFile) -> NDArray[np.uint8] | None:
    """Return the 8-bit samples of an image with deeper grey ones, else None."""
    if image.mode.startswith("I;16"):
        high_byte: NDArray[np.uint8] = (np.asarray(image) >> 8).astype(np.uint8)
        return high_byte
    if image.mode not in {"I", "F"}:
        return None
    samples = np.asarray(image)
    low, high = float(samples.min()), float(samples.max())
    if not (low >= 0 and high <= 65535):  # also catches NaN
        raise ImageError(f"grey samples range from {low:g} to {high:g}; 0..65535 is understood")
    if image.mode == "I" and image.format in {"PNG", "PPM"}:
        high = 65535  # Pillow scales these to the full range itself
    if image.mode == "F" and high <= 1:
        return np.round(samples * 255).astype(np.uint8)
    scaled: NDArray[np.uint8] = (samples // (256 if high > 255 else 1)).astype(np.uint8)
    return scaled


def _reason(error: Exception) -> str:
    """Return what *error* says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__
