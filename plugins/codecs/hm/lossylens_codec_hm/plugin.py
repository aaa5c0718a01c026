"""Registers HM; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable

from lossylens.codec import CodecSpec
from lossylens.hookspecs import hookimpl
from lossylens.toolkit.external_codec.options import ReferenceOptions, qp_levels, qp_parser
from lossylens.toolkit.external_codec.programs import Program
from lossylens.toolkit.external_codec.software import Software

LARGEST_QP = 51

_SOURCE = "build HM from https://vcgit.hhi.fraunhofer.de/jvet/HM"

SOFTWARE = Software(
    encoder=Program(
        what="HM encoder",
        option="encoder",
        variable="LOSSYLENS_HM_ENCODER",
        names=("TAppEncoder", "TAppEncoderStatic"),
        source=_SOURCE,
        banner=r"HM software: Encoder Version",
    ),
    decoder=Program(
        what="HM decoder",
        option="decoder",
        variable="LOSSYLENS_HM_DECODER",
        names=("TAppDecoder", "TAppDecoderStatic"),
        source=_SOURCE,
        banner=r"HM software: Decoder Version",
    ),
    # The first is for 4:2:0 alone; the second has tools that help 4:4:4.
    configs={"4:2:0": "encoder_intra_main.cfg", "4:4:4": "encoder_intra_main_rext.cfg"},
)

#: Quantisation parameters of the published results, by task.
PUBLISHED = {
    **dict.fromkeys(("pope", "mmbench", "coco-caption"), (50, 47, 45, 40)),
    **dict.fromkeys(("gqa", "mme", "ocrbench", "seedbench"), (51, 49, 45, 42)),
}


@hookimpl
def register_codecs(register: Callable[[CodecSpec], None]) -> None:
    """Register HM."""
    register(
        CodecSpec(
            name="hm",
            summary="HEVC intra by the reference software HM (the user's binaries)",
            factory="lossylens_codec_hm.codec:Hm",
            category="traditional",
            citation="ITU-T H.265 | ISO/IEC 23008-2; HEVC Test Model (HM)",
            licence="Apache-2.0; HM is BSD-3-Clause",
            options=ReferenceOptions,
            requirements=SOFTWARE.missing,
            levels=qp_levels(*sum(PUBLISHED.values(), ())),
            level_sets={task: tuple(f"qp{qp}" for qp in qps) for task, qps in PUBLISHED.items()},
            parse_level=qp_parser(LARGEST_QP),
            level_help=f"qp0 to qp{LARGEST_QP}",
        )
    )
