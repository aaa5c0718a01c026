"""HEVC intra pictures: x265 and ffmpeg's decoder, both through PyAV."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import av
import av.logging
import numpy as np
from lossylens.codec import Level
from lossylens.errors import BitstreamError, ImageError
from lossylens_toolkit.external_codec.nal import CodedPicture
from lossylens_toolkit.external_codec.program_codec import StillCodec
from lossylens_toolkit.external_codec.yuv import Frame

from lossylens_codec_hevc_x265.plugin import LARGEST_QP, X265Options

#: ``info``: an SEI of 2255 bytes names the library otherwise.  ``ipratio``: an I picture
#: gets the quantisation parameter that was asked for, and not 3 less.  ``aq-mode`` and the
#: psychovisual settings, which also shift the chroma of 4:4:4, are off as in HM.  One
#: thread, so that the bytes are the same every time.
_PARAMETERS = (
    "keyint=1:info=0:ipratio=1:aq-mode=0:psy-rd=0:psy-rdoq=0:"
    "pools=none:frame-threads=1:log-level=none"
)


class X265(StillCodec):
    """x265 at one quantisation parameter."""

    name = "hevc-x265"
    standard = "hevc"
    largest_qp = LARGEST_QP
    # x265 refuses less.
    smallest_side = 32
    # ffmpeg shows a picture for nearly every cut stream, without an error.
    checked = True
    options: X265Options

    def __init__(self, level: Level, options: X265Options) -> None:
        """Take the level and the options.

        Raises:
            ConfigError: a quantisation parameter outside 0..51.
        """
        super().__init__(level, options)
        # x265 and the decoder write to standard error by themselves.
        av.logging.set_level(None)

    @property
    def _parameters(self) -> str:
        return f"qp={self.qp}:{_PARAMETERS}"

    def encode_frame(self, raw: bytes, frame: Frame) -> bytes:
        """Return the byte stream of one frame."""
        try:
            encoder = av.CodecContext.create("libx265", "w")
            encoder.width, encoder.height = frame.width, frame.height
            encoder.pix_fmt = _pixel_format(frame)
            encoder.time_base = Fraction(1, 1)
            encoder.framerate = Fraction(1, 1)
            encoder.thread_count = 1
            encoder.options = {"preset": self.options.preset, "x265-params": self._parameters}
            packets = [*encoder.encode(_video_frame(raw, frame)), *encoder.encode(None)]
        except (av.error.FFmpegError, ValueError, MemoryError) as error:
            raise ImageError(
                f"{self.name}: cannot encode {frame.width}x{frame.height}: {error}"
            ) from error
        return b"".join(bytes(packet) for packet in packets)

    def decode_frame(self, stream: bytes, frame: Frame, coded: CodedPicture) -> bytes:
        """Return the samples of the only frame."""
        if coded.depth != frame.depth:
            raise BitstreamError("the bitstream is damaged: the depths in its headers differ")
        try:
            decoder = av.CodecContext.create("hevc", "r")
            decoder.thread_count = 1
            # Room for the padding to whole coding units.
            limit = (frame.width + 64) * (frame.height + 64)
            decoder.options = {"err_detect": "explode", "max_pixels": str(limit)}
            frames = [*decoder.decode(av.Packet(stream)), *decoder.decode(None)]
        except (av.error.FFmpegError, ValueError, MemoryError) as error:
            reason = getattr(error, "strerror", None) or error
            raise BitstreamError(f"the decoder refuses it: {reason}") from error
        if len(frames) != 1:
            raise BitstreamError(f"the decoder found {len(frames)} pictures instead of one")
        return _samples(frames[0], frame)

    def provenance(self) -> Mapping[str, str]:
        """Return version of PyAV, which has x265 and ffmpeg in it, and the parameters."""
        libavcodec = ".".join(map(str, av.library_versions["libavcodec"]))
        return {"pyav": av.__version__, "libavcodec": libavcodec, "x265_params": self._parameters}


def _pixel_format(frame: Frame) -> str:
    deep = "10le" if frame.depth == 10 else ""
    return f"yuv{frame.subsampling.replace(':', '')}p{deep}"


def _video_frame(raw: bytes, frame: Frame) -> av.VideoFrame:
    picture = av.VideoFrame(frame.width, frame.height, _pixel_format(frame))
    picture.pts = 0
    start = 0
    for plane, (height, width) in zip(picture.planes, frame.planes, strict=True):
        row = width * (1 if frame.depth == 8 else 2)
        lines = np.zeros((height, plane.line_size), np.uint8)
        samples = np.frombuffer(raw, np.uint8, height * row, start)
        lines[:, :row] = samples.reshape(height, row)
        plane.update(lines.tobytes())
        start += height * row
    return picture


def _samples(picture: av.VideoFrame, frame: Frame) -> bytes:
    found = (picture.width, picture.height, picture.format.name)
    if found != (frame.width, frame.height, _pixel_format(frame)):
        raise BitstreamError(f"the decoder returned {found[2]} {found[0]}x{found[1]}")
    raw = b""
    for plane, (height, width) in zip(picture.planes, frame.planes, strict=True):
        row = width * (1 if frame.depth == 8 else 2)
        lines = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        raw += lines[:height, :row].tobytes()
    return raw
