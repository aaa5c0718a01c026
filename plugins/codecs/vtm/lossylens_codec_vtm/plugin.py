"""Registers VTM; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable

from lossylens.codec import CodecSpec
from lossylens.hookspecs import hookimpl
from lossylens_toolkit.external_codec.declaring import reference_software, reference_spec

LARGEST_QP = 63

SOFTWARE = reference_software(
    "VTM",
    encoder="EncoderApp",
    decoder="DecoderApp",
    banner=r"VTM {role} Version",
    source="build VTM from https://vcgit.hhi.fraunhofer.de/jvet/VVCSoftware_VTM",
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
        reference_spec(
            "vtm",
            factory="lossylens_codec_vtm.codec:Vtm",
            summary="VVC intra by the reference software VTM (the user's binaries)",
            citation="ITU-T H.266 | ISO/IEC 23090-3; VVC Test Model (VTM)",
            licence="Apache-2.0; VTM is BSD-3-Clause",
            software=SOFTWARE,
            largest_qp=LARGEST_QP,
            published=PUBLISHED,
        )
    )
