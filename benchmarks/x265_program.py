"""x265's command line as a codec, for the benchmark of external encoders.

The plugin ``hevc-x265`` calls the same encoder without a process of its own.  This one
encodes only: Debian's package has no decoder.
"""

from __future__ import annotations

from lossylens.codec import CodecSpec
from lossylens_toolkit.external_codec.program_codec import ProgramCodec
from lossylens_toolkit.external_codec.program_options import ProgramOptions, qp_levels
from lossylens_toolkit.external_codec.programs import Program
from lossylens_toolkit.external_codec.software import Software
from lossylens_toolkit.external_codec.yuv import Frame

_X265 = Program(
    what="x265",
    option="encoder",
    variable="LOSSYLENS_X265",
    names=("x265",),
    source="install Debian's package x265",
    banner="x265.*version",
    asking=("--version",),
)

SPEC = CodecSpec(
    name="x265-program",
    summary="HEVC intra pictures by x265's command line",
    factory="x265_program:X265Program",
    options=ProgramOptions,
    levels=qp_levels(37),
)


class X265Program(ProgramCodec):
    """x265 at the settings of the plugin ``hevc-x265``."""

    name = "x265-program"
    standard = "hevc"
    largest_qp = 51
    smallest_side = 32
    software = Software(_X265, _X265)

    def encoder_arguments(self, frame: Frame) -> list[str]:
        return [
            *("--input", "in.yuv", "--input-res", f"{frame.width}x{frame.height}"),
            *("--input-csp", f"i{frame.subsampling.replace(':', '')}"),
            *("--input-depth", str(frame.depth), "--fps", "1", "--frames", "1"),
            *("--preset", "veryslow", "--qp", str(self.qp), "--keyint", "1", "--ipratio", "1"),
            *("--aq-mode", "0", "--no-psy-rd", "--no-psy-rdoq", "--no-info"),
            *("--pools", "none", "--frame-threads", "1", "-o", "str.bin"),
        ]

    def decoder_arguments(self, frame: Frame) -> list[str]:
        raise NotImplementedError

    def check_whole(self, stream: bytes, frame: Frame, output: str) -> None:
        """Nothing decodes it; the benchmark runs where there is room for files."""
