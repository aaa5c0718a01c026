"""Registers VVenC; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lossylens.codec import CodecSpec
from lossylens.hookspecs import hookimpl
from lossylens_toolkit.external_codec.program_options import ProgramOptions, qp_levels, qp_parser
from lossylens_toolkit.external_codec.programs import Program
from lossylens_toolkit.external_codec.software import Software

LARGEST_QP = 63

PRESETS = ("faster", "fast", "medium", "slow", "slower")


def _program(name: str, role: str) -> Program:
    """Return VVenC or VVdeC, which are alike but for the name."""
    app = f"{name.lower()}app"
    return Program(
        what=f"{name} {role}",
        option=role,
        variable=f"LOSSYLENS_VVENC_{role.upper()}",
        names=(app,),
        source=f"build {name} from https://github.com/fraunhoferhhi/{name.lower()}",
        banner=rf"{app}.*version|{name}",
        asking=("--version",),
    )


SOFTWARE = Software(encoder=_program("VVenC", "encoder"), decoder=_program("VVdeC", "decoder"))


@dataclass
class VvencOptions(ProgramOptions):
    """Options of VVenC, which codes 4:2:0 alone.

    Attributes:
        preset: effort: ``faster``, ``fast``, ``medium``, ``slow`` or ``slower``.

    Raises:
        ValueError: a value outside these.
    """

    subsampling: str = "4:2:0"
    preset: str = "slower"

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        if self.subsampling != "4:2:0":
            raise ValueError(f"subsampling {self.subsampling} is not one that VVenC codes: 4:2:0")
        if self.preset not in PRESETS:
            raise ValueError(f"preset {self.preset!r} is not one of {', '.join(PRESETS)}")


@hookimpl
def register_codecs(register: Callable[[CodecSpec], None]) -> None:
    """Register VVenC."""
    register(
        CodecSpec(
            name="vvc-vvenc",
            summary="VVC still pictures by VVenC (the user's vvencapp and vvdecapp); not VTM",
            factory="lossylens_codec_vvc_vvenc.codec:Vvenc",
            category="traditional",
            citation="Wieckowski et al., VVenC: An Open And Optimized VVC Encoder Implementation,"
            " ICMEW 2021",
            licence="Apache-2.0; VVenC and VVdeC are BSD-3-Clause-Clear",
            options=VvencOptions,
            requirements=SOFTWARE.missing,
            levels=qp_levels(53, 50, 49, 45, 42, 40),
            parse_level=qp_parser(LARGEST_QP),
            level_help=f"qp0 to qp{LARGEST_QP}",
        )
    )
