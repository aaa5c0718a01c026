"""VVC still pictures by VVenC and VVdeC."""

from __future__ import annotations

import re
from dataclasses import replace

from lossylens_toolkit.external_codec.nal import CodedPicture
from lossylens_toolkit.external_codec.program_codec import ProgramCodec
from lossylens_toolkit.external_codec.yuv import Frame

from lossylens_codec_vvc_vvenc.plugin import LARGEST_QP, SOFTWARE, VvencOptions

#: VVenC codes with this many bits per sample, and VVdeC writes as many.
_CODED_DEPTH = 10

#: What VVenC says last of one picture: its kilobits, at one picture a second.
_KILOBITS = re.compile(r"^vvenc \[info\]:\s+1\s+a\s+(\d+\.\d{3,})\s", re.MULTILINE)


class Vvenc(ProgramCodec):
    """VVenC at one quantisation parameter, without its perceptual adaptation."""

    name = "vvc-vvenc"
    standard = "vvc"
    largest_qp = LARGEST_QP
    smallest_side = 8
    # VVdeC shows a picture for some cut streams, without an error.
    checked = True
    software = SOFTWARE
    options: VvencOptions

    def encoder_arguments(self, frame: Frame) -> list[str]:
        """Return the command line."""
        return [
            *("--input", "in.yuv", "--output", "str.bin"),
            *("--size", f"{frame.width}x{frame.height}"),
            *("--format", "yuv420" if frame.depth == 8 else "yuv420_10"),
            *("--framerate", "1", "--frames", "1"),
            *("--preset", self.options.preset, "--qp", str(self.qp)),
            # It would change the quantisation by its own idea of what is seen.
            *("--qpa", "0"),
            *("--internal-bitdepth", str(_CODED_DEPTH)),
            *("--threads", "1"),
            # An intra picture would get 3 less than the quantisation parameter that was
            # asked for.
            *("--additional", "IntraQPOffset=0"),
        ]

    def bytes_written(self, output: str) -> int | None:
        """Return how long the encoder says that its file is."""
        found = _KILOBITS.search(output)
        return round(125 * float(found[1])) if found else None

    def decoder_arguments(self, frame: Frame) -> list[str]:
        """Return the command line."""
        return ["--bitstream", "str.bin", "--output", "out.yuv", "--threads", "1"]

    def output_frame(self, frame: Frame, coded: CodedPicture) -> Frame:
        """Return the shape in which VVdeC writes, which is that of the coding."""
        return replace(frame, depth=_CODED_DEPTH)
