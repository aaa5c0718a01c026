"""HM and VTM, the reference software of HEVC and VVC, whose programs are called alike."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from lossylens.errors import RequirementError

from lossylens_toolkit.external_codec.program_codec import ProgramCodec
from lossylens_toolkit.external_codec.program_options import ReferenceOptions
from lossylens_toolkit.external_codec.programs import file_sha256
from lossylens_toolkit.external_codec.software import Software
from lossylens_toolkit.external_codec.yuv import Frame

#: What encoders say of their file: its size, or at the verbosity that VTM has by default
#: the bits of each picture, in which its parameter sets are.
_BYTES = re.compile(r"^Bytes written to file: *(\d+)\b", re.MULTILINE)
_BITS = re.compile(r"^POC .*?\) +(\d+) bits\b", re.MULTILINE)


class ReferenceCodec(ProgramCodec):
    """One picture through reference software, in intra coding."""

    software: ClassVar[Software]
    # One smallest coding unit; the encoder itself pads to multiples of it, and says so
    # in the stream.
    smallest_side = 8
    options: ReferenceOptions

    @cached_property
    def config_path(self) -> Path:
        """The encoder's configuration file."""
        for missing in self.software.missing(self.options):
            raise RequirementError(f"{self.name}: {missing.what}: {missing.remedy}")
        found = self.software.find_config(self.options)
        assert found is not None
        return found.resolve()

    def encoder_arguments(self, frame: Frame) -> list[str]:
        """Return the command line; what follows the configuration file overrides it."""
        depth = self.options.internal_depth
        return [
            *("-c", str(self.config_path)),
            *("-i", "in.yuv", "-b", "str.bin", "-o", os.devnull),
            *("-wdt", str(frame.width), "-hgt", str(frame.height), "-fr", "1", "-f", "1"),
            *("-q", str(self.qp)),
            f"--InputChromaFormat={frame.subsampling.replace(':', '')}",
            f"--InputBitDepth={frame.depth}",
            *([] if depth is None else [f"--InternalBitDepth={depth}"]),
            # Any size, with the padding noted in the stream; 0 in old releases of VTM.
            "--ConformanceWindowMode=1",
            # Nearly 60 bytes where it is on.
            "--SEIDecodedPictureHash=0",
        ]

    def decoder_arguments(self, frame: Frame) -> list[str]:
        """Return the command line; the decoder rounds to the depth it is asked for."""
        return ["-b", "str.bin", "-o", "out.yuv", "-d", str(frame.depth)]

    def bytes_written(self, output: str) -> int | None:
        """Return how long the encoder says that its file is."""
        total = _BYTES.search(output)
        if total:
            return int(total[1])
        pictures = _BITS.findall(output)
        return sum(map(int, pictures)) // 8 if pictures else None

    def provenance(self) -> Mapping[str, str]:
        """Return versions, hashes and arguments of the programs and the configuration file."""
        found = dict(super().provenance())
        arguments = found["encoder_arguments"]
        found["encoder_arguments"] = arguments.replace(str(self.config_path), self.config_path.name)
        return {**found, "config_sha256": file_sha256(self.config_path)}
