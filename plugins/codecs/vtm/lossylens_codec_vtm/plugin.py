"""Registers VTM; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable

from lossylens.codec import CodecSpec
from lossylens.hookspecs import hookimpl
from lossylens.toolkit.external_codec.options import ReferenceOptions, qp_levels, qp_parser
from lossylens.toolkit.external_codec.programs import Program
from lossylens.toolkit.external_codec.software import Software

LARGEST_QP = 63

_SOURCE = "build VTM from https://vcgit.hhi.fraunhofer.de/jvet/VVCSoftware_VTM"

SOFTWARE = Software(
    encoder=Program(
        what="VTM encoder",
        option="encoder",
        variable="LOSSYLENS_VTM_ENCODER",
        names=("EncoderApp", "EncoderAppStatic"),
        source=_SOURCE,
        banner=r"VTM Encoder Version",
    ),
    decoder=Program(
        what="VTM decoder",
        option="decoder",
        variable="LOSSYLENS_VTM_DECODER",
        names=("DecoderApp", "DecoderAppStatic"),
        source=_SOURCE,
        banner=r"VTM Decoder Version",
    ),
    configs=dict.fromkeys(("4:2:0", "4:4:4"), "encoder_intra_vtm.cfg"),
)

#: Quantisation parameters of the published results, by task.
PUBLISHED = {
    **dict.fromkeys(("pope", "mmbench", "coco-caption"), (53, 50, 45, 40)),
    **dict.fromkeys(("gqa", "mme", "ocrbench", "seedbench"), (53, 49, 45, 42)),
}


@hookimpl
def register_codecs(register: Callable[[CodecSpec], None]) -> None:
    """Register VTM."""
    register(
        CodecSpec(
            name="vtm",
            summary="VVC intra by the reference software VTM (the user's binaries)",
            factory="lossylens_codec_vtm.codec:Vtm",
            category="traditional",
            citation="ITU-T H.266 | ISO/IEC 23090-3; VVC Test Model (VTM)",
            licence="Apache-2.0; VTM is BSD-3-Clause",
            options=ReferenceOptions,
            requirements=SOFTWARE.missing,
            levels=qp_levels(*sum(PUBLISHED.values(), ())),
            level_sets={task: tuple(f"qp{qp}" for qp in qps) for task, qps in PUBLISHED.items()},
            parse_level=qp_parser(LARGEST_QP),
            level_help=f"qp0 to qp{LARGEST_QP}",
        )
    )
