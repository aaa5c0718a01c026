"""A codec of still pictures around an HEVC or VVC encoder."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
from lossylens.codec import Codec, Level
from lossylens.errors import (
    BitstreamError,
    ConfigError,
    ImageError,
    LossylensError,
    TransientError,
)
from lossylens.images import plain_rgb
from PIL import Image as PillowImage
from PIL.Image import Image

from lossylens_toolkit.external_codec.bitstream_header import BitstreamHeader, unwrap, wrap
from lossylens_toolkit.external_codec.nal import (
    CodedPicture,
    NoPictureError,
    read_hevc,
    read_vvc,
)
from lossylens_toolkit.external_codec.program_options import ConversionOptions, ProgramOptions
from lossylens_toolkit.external_codec.program_running import (
    ProgramError,
    quoted,
    run_program,
    workspace,
)
from lossylens_toolkit.external_codec.programs import file_sha256, require_program, version
from lossylens_toolkit.external_codec.software import Software
from lossylens_toolkit.external_codec.yuv import Conversion, Frame, pad, to_depth, to_raw, to_rgb

#: The largest picture of HEVC's level 6.2, and its longest side.  An absolute limit is
#: needed because uniform areas cost next to nothing: 100 bytes can rightly stand for
#: any size.
MAX_PIXELS = 35_651_584
MAX_SIDE = 16_384

_READERS = {"hevc": read_hevc, "vvc": read_vvc}


class CutError(ProgramError):
    """An encoder has not written all of its file; what it was given is not to blame."""


class StillCodec(Codec):
    """Converts, pads and frames; a subclass codes one frame of planar samples.

    The bitstream is the encoder's byte stream, with a header before it only where
    settings, padding or a checksum ask for one; see
    :mod:`lossylens_toolkit.external_codec.bitstream_header`.

    Attributes:
        name: of the codec, for messages.
        standard: of the byte stream, ``"hevc"`` or ``"vvc"``.
        largest_qp: quantisation parameters go from 0 to this.
        smallest_side: shorter sides are padded to this.
        checked: add a checksum, because the decoder does not notice all damage.
    """

    name: ClassVar[str]
    standard: ClassVar[str]
    largest_qp: ClassVar[int]
    smallest_side: ClassVar[int] = 1
    checked: ClassVar[bool] = False
    options: ConversionOptions

    def __init__(self, level: Level, options: ConversionOptions) -> None:
        """Take *level*, whose ``qp`` is 0..:attr:`largest_qp`, and the options.

        Raises:
            ConfigError: another quantisation parameter.
        """
        super().__init__(level, options)
        qp = level.parameters.get("qp")
        if not isinstance(qp, int) or not 0 <= qp <= self.largest_qp:
            raise ConfigError(
                f"{self.name}: qp {qp!r} of level {level.name} is outside 0..{self.largest_qp}"
            )
        self.qp = qp
        self.conversion = Conversion(options.matrix, options.full_range, options.input_depth)

    @abstractmethod
    def encode_frame(self, raw: bytes, frame: Frame) -> bytes:
        """Return the byte stream of a raw planar file.

        Raises:
            ImageError: this picture cannot be coded.
        """

    @abstractmethod
    def decode_frame(self, stream: bytes, frame: Frame, coded: CodedPicture) -> bytes:
        """Return the raw planar file, in the shape of *frame*, that *stream* carries.

        Raises:
            BitstreamError: the decoder failed.
        """

    def encode(self, image: Image) -> bytes:
        """Return the bitstream of *image*; the same bytes every time.

        Raises:
            ImageError: not RGB, beyond :data:`MAX_SIDE` or :data:`MAX_PIXELS`, or the
                encoder failed.
            RequirementError: the encoder is not there.
            TransientError: the disk of temporary files is full, or the encoder was ended
                by others, or left a file that is cut; the image is not to blame.
        """
        if max(image.size) > MAX_SIDE or image.width * image.height > MAX_PIXELS:
            raise ImageError(
                f"{self.name}: {image.width}x{image.height} is too large; the limits are"
                f" {MAX_SIDE} per side and {MAX_PIXELS} pixels"
            )
        rgb = np.asarray(plain_rgb(image))
        width, height = self._coded_size(*image.size, self.options.subsampling)
        frame = Frame(width, height, self.options.subsampling, self.options.input_depth)
        raw = to_raw(pad(rgb, width, height), frame, self.conversion)
        try:
            stream = self.encode_frame(raw, frame)
        except TransientError as error:
            raise TransientError(f"{self.name}: the encoder failed: {error}") from error
        self._check_stream(stream, frame)
        size = None if image.size == (width, height) else image.size
        return wrap(BitstreamHeader(self.conversion, size), stream, checked=self.checked)

    def decode(self, bitstream: bytes) -> Image:
        """Return the image in *bitstream*.

        What it needs beside the decoder is in the bitstream; options and level of this
        codec do not matter.

        Raises:
            BitstreamError: cut, damaged in a way that shows, or of another codec.
            RequirementError: the decoder is not there.
            TransientError: the disk of temporary files is full, or the decoder was ended
                by others; the bitstream is not to blame.
        """
        try:
            header, stream = unwrap(bitstream)
            coded = _READERS[self.standard](stream)
            self._check_size(header, coded)
            depth = header.conversion.depth
            frame = Frame(coded.width, coded.height, coded.subsampling, depth)
            raw = self.decode_frame(stream, frame, coded)
        except BitstreamError as error:
            raise BitstreamError(f"{self.name}: {error}") from error
        except TransientError as error:
            raise TransientError(f"{self.name}: the decoder failed: {error}") from error
        width, height = header.size or (coded.width, coded.height)
        rgb = to_rgb(raw, frame, header.conversion)[:height, :width]
        return PillowImage.fromarray(np.ascontiguousarray(rgb))

    def _coded_size(self, width: int, height: int, subsampling: str) -> tuple[int, int]:
        """Return the padded size of a picture."""
        step = 2 if subsampling == "4:2:0" else 1
        sides = (max(side, self.smallest_side) for side in (width, height))
        padded_width, padded_height = (-(-side // step) * step for side in sides)
        return padded_width, padded_height

    def _check_stream(self, stream: bytes, frame: Frame) -> None:
        """Make sure that the decoder will find in *stream* what was encoded."""
        try:
            coded = _READERS[self.standard](stream)
        except BitstreamError as error:
            raise LossylensError(
                f"{self.name}: the encoder did not write a plain stream of one picture: {error}"
            ) from error
        found = (coded.width, coded.height, coded.subsampling)
        if found != (frame.width, frame.height, frame.subsampling):
            raise LossylensError(
                f"{self.name}: the encoder wrote {coded.width}x{coded.height} {coded.subsampling}"
                f" instead of {frame.width}x{frame.height} {frame.subsampling}"
            )

    def _check_size(self, header: BitstreamHeader, coded: CodedPicture) -> None:
        """Refuse sizes that this codec does not write, before they are allocated."""
        if max(coded.width, coded.height) > MAX_SIDE + 1 or (
            coded.width * coded.height > MAX_PIXELS + 2 * MAX_SIDE
        ):
            raise BitstreamError(f"claims {coded.width}x{coded.height} pixels, above the limit")
        size = header.size or (coded.width, coded.height)
        if 0 in size or self._coded_size(*size, coded.subsampling) != (coded.width, coded.height):
            raise BitstreamError("the bitstream is damaged: the sizes in its headers differ")
        if header.conversion.matrix == "rgb" and coded.subsampling != "4:4:4":
            raise BitstreamError("the bitstream is damaged: RGB is never subsampled")


class ProgramCodec(StillCodec):
    """A codec whose encoder and decoder are programs that the user has.

    Each call runs one process, in a temporary folder that holds ``in.yuv`` and
    ``str.bin``, or ``str.bin`` and ``out.yuv``.

    Attributes:
        software: the programs, and how they are found.
    """

    software: ClassVar[Software]
    options: ProgramOptions

    @cached_property
    def encoder_path(self) -> Path:
        """The encoder, checked to be what it should be."""
        return require_program(self.software.encoder, self.options.encoder)

    @cached_property
    def decoder_path(self) -> Path:
        """The decoder, checked to be what it should be."""
        return require_program(self.software.decoder, self.options.decoder)

    @abstractmethod
    def encoder_arguments(self, frame: Frame) -> list[str]:
        """Return the arguments that code ``in.yuv`` to ``str.bin``."""

    @abstractmethod
    def decoder_arguments(self, frame: Frame) -> list[str]:
        """Return the arguments that decode ``str.bin`` to ``out.yuv``."""

    def output_frame(self, frame: Frame, coded: CodedPicture) -> Frame:
        """Return the shape in which the decoder writes *frame*."""
        return frame

    def bytes_written(self, output: str) -> int | None:
        """Return how long the encoder says that its file is; here None, for it says nothing.

        Args:
            output: beginning and end of what it has printed.
        """
        return None

    def check_whole(self, stream: bytes, frame: Frame, output: str) -> None:
        """Make sure that the encoder's file is not cut, though its exit code is 0.

        Not every program notices that the disk is full.  Where it says how long its file
        is, that is compared; else what is there is decoded.

        Args:
            stream: the content of the file.
            frame: what was encoded.
            output: beginning and end of what the encoder has printed.

        Raises:
            CutError: it is cut.
            ProgramError: there is nothing in it.
        """
        written = self.bytes_written(output)
        if written is not None and written > len(stream):
            raise CutError(f"{len(stream)} of the {written} bytes that it says it wrote are there")
        if not stream:
            raise ProgramError(f"it wrote nothing to str.bin{quoted(output)}")
        if written == len(stream):
            return
        try:
            coded = _READERS[self.standard](stream)
        except NoPictureError as error:
            raise CutError(str(error)) from error
        except BitstreamError:
            return  # Whole or not, it is no stream that this codec can use; encode() says so.
        shape = (coded.width, coded.height, coded.subsampling)
        try:
            self.decode_frame(stream, Frame(*shape, frame.depth), coded)
        except BitstreamError as error:
            raise CutError(f"what is there cannot be decoded: {error}") from error

    def encode_frame(self, raw: bytes, frame: Frame) -> bytes:
        """Run the encoder."""
        arguments: list[str | Path] = [self.encoder_path, *self.encoder_arguments(frame)]
        # VTM never ends when its input is short, so its length is a matter of course.
        assert len(raw) == frame.size
        try:
            with workspace() as folder:
                (folder / "in.yuv").write_bytes(raw)
                output = run_program(
                    [*arguments, *self.options.extra_arguments],
                    folder=folder,
                    seconds=_seconds(self.options.encoder_limit, frame),
                    file_size=2 * len(raw),
                )
                stream = _content(folder / "str.bin")
                self.check_whole(stream, frame, output)
        except CutError as error:
            raise TransientError(
                f"it ended with exit code 0, but its file is cut: {error}"
            ) from error
        except ProgramError as error:
            raise ImageError(
                f"{self.name}: the encoder failed on {frame.width}x{frame.height}: {error}"
            ) from error
        return stream

    def decode_frame(self, stream: bytes, frame: Frame, coded: CodedPicture) -> bytes:
        """Run the decoder."""
        written = self.output_frame(frame, coded)
        try:
            with workspace() as folder:
                (folder / "str.bin").write_bytes(stream)
                output = run_program(
                    [self.decoder_path, *self.decoder_arguments(frame)],
                    folder=folder,
                    seconds=_seconds(self.options.decoder_limit, frame),
                    file_size=written.size,
                )
                raw = _content(folder / "out.yuv")
                if len(raw) != written.size:
                    raise ProgramError(
                        f"it wrote {len(raw)} bytes instead of {written.size} to out.yuv"
                        f"{quoted(output)}"
                    )
        except ProgramError as error:
            raise BitstreamError(f"the decoder failed: {error}") from error
        return raw if written.depth == frame.depth else to_depth(raw, written, frame.depth)

    def provenance(self) -> Mapping[str, str]:
        """Return versions and hashes of the programs, and their arguments for the size 0x0."""
        frame = Frame(0, 0, self.options.subsampling, self.options.input_depth)
        arguments = [*self.encoder_arguments(frame), *self.options.extra_arguments]
        return {
            "encoder": version(self.software.encoder, self.encoder_path),
            "encoder_sha256": file_sha256(self.encoder_path),
            "decoder": version(self.software.decoder, self.decoder_path),
            "decoder_sha256": file_sha256(self.decoder_path),
            "encoder_arguments": " ".join(arguments),
            "decoder_arguments": " ".join(self.decoder_arguments(frame)),
        }


def _seconds(minutes: float, frame: Frame) -> float:
    """Return a time limit for a picture."""
    return 60 * minutes * max(1.0, frame.width * frame.height / 1e6)


def _content(path: Path) -> bytes:
    """Return what a program has written, if anything."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
