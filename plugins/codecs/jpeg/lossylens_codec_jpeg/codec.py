"""JPEG (ITU-T T.81) through Pillow, which uses libjpeg-turbo.

A bitstream is a whole JPEG file: every header and table counts into the rate.
The level is the quality of libjpeg, and is found again in the quantisation
tables.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import PIL
from lossylens.images import MAX_PIXELS
from lossylens.images.jpeg_quality import estimate_quality, standard_tables
from lossylens_toolkit.pillow_codec import PillowCodec
from PIL import ImageFile, features
from PIL.Image import Image

from lossylens_codec_jpeg.jpegfile import (
    APP0,
    DHT,
    DQT,
    EOI,
    SOF_BASELINE,
    SOF_PROGRESSIVE,
    SOS,
    JpegFormatError,
    JpegHeader,
    read_header,
    read_scans,
)
from lossylens_codec_jpeg.plugin import QUALITIES, JpegOptions

#: libjpeg's script for progressive colour files; a damaged or hostile file with
#: thousands of scans would take thousands of passes over the picture.
_MAX_SCANS = {SOF_BASELINE: 1, SOF_PROGRESSIVE: 10}

_MARKERS = {APP0, DQT, DHT, SOS, EOI, *_MAX_SCANS}

#: For 3 components, each with a code of 27 bits, the longest, for every coefficient.
_MAX_BYTES_PER_PIXEL = 11

_buffer_lock = threading.Lock()


@contextmanager
def _roomy_buffer(size: int) -> Iterator[None]:
    """Let Pillow's encoders use buffers of *size* bytes; the setting is global."""
    with _buffer_lock:
        before = ImageFile.MAXBLOCK
        ImageFile.MAXBLOCK = max(before, size)
        try:
            yield
        finally:
            ImageFile.MAXBLOCK = before


class Jpeg(PillowCodec):
    """JPEG at one quality.

    Chroma is interpolated by libjpeg's "fancy" upsampling; other decoders can differ
    by one or two codes.
    """

    format = "JPEG"
    qualities = QUALITIES
    #: libjpeg's limit, below the 65535 that the format has room for.
    max_side = 65500

    options: JpegOptions

    def settings(self) -> Mapping[str, Any]:
        """Return quality and options."""
        return {
            "quality": self.quality,
            "optimize": self.options.optimize,
            "progressive": self.options.progressive,
            "subsampling": self.options.subsampling,
        }

    def save(self, image: Image) -> bytes:
        """Return the file of *image*."""
        try:
            return super().save(image)
        except OSError:
            # To optimise, libjpeg needs the whole file in one buffer, and Pillow's
            # guess of its size is too small for noise at high quality.
            with _roomy_buffer(_MAX_BYTES_PER_PIXEL * image.width * image.height):
                return super().save(image)

    def check_file(self, bitstream: bytes) -> None:
        """Accept a file with this level's tables that ends where it should."""
        header = read_header(bitstream)
        self._check_frame(header)
        self._check_level(header)
        _check_size(header, len(bitstream))
        _check_markers(header, read_scans(bitstream, header))

    def provenance(self) -> Mapping[str, str]:
        """Return the versions of Pillow and of the JPEG library in it."""
        turbo = features.version("libjpeg_turbo")
        library = f"libjpeg-turbo {turbo}" if turbo else f"libjpeg {features.version('jpg')}"
        return {"pillow": PIL.__version__, "jpeg_library": library}

    def _check_frame(self, header: JpegHeader) -> None:
        if (
            header.frame not in _MAX_SCANS
            or header.precision != 8
            or len(header.components) != 3
            or header.width < 1
            or header.height < 1
        ):
            raise JpegFormatError("not a colour JPEG as this codec writes it")

    def _check_level(self, header: JpegHeader) -> None:
        luma, chroma = standard_tables(self.quality)
        if header.component_tables() != [luma, chroma, chroma]:
            estimate = estimate_quality(header.leading_tables())
            about = "" if estimate.exact else "about "
            raise JpegFormatError(
                f"encoded at {about}q{estimate.quality}, this decoder is q{self.quality}"
            )


def _check_size(header: JpegHeader, length: int) -> None:
    """Refuse sizes that the bitstream is too short for, before they are allocated.

    A block takes at least one bit, that of its DC coefficient.
    """
    pixels = header.width * header.height
    if pixels > MAX_PIXELS or header.blocks() > 8 * length:
        raise JpegFormatError(
            f"claims {header.width}x{header.height} pixels, too many for {length} bytes"
        )


def _check_markers(header: JpegHeader, later: tuple[int, ...]) -> None:
    markers = [*header.markers, *later]
    strange = sorted(set(markers) - _MARKERS)
    if strange:
        raise JpegFormatError(f"segment {strange[0]:02X} is none that this codec writes")
    scans = markers.count(SOS)
    if scans > _MAX_SCANS[header.frame]:
        raise JpegFormatError(f"{scans} scans, more than this codec writes")
