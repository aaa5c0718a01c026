"""Registers HM; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable

from lossylens.codec import CodecSpec
from lossylens.hookspecs import hookimpl
from lossylens_toolkit.external_codec.declaring import reference_software, reference_spec

LARGEST_QP = 51

SOFTWARE = reference_software(
    "HM",
    encoder="TAppEncoder",
    decoder="TAppDecoder",
    banner=r"HM software: {role} Version",
    source="build HM from https://vcgit.hhi.fraunhofer.de/jvet/HM",
    # The first is for 4:2:0 alone, and for 8 bits; the second has tools that help 4:4:4.
    configs={"4:2:0": "encoder_intra_main.cfg", "4:4:4": "encoder_intra_main_rext.cfg"},
    deep_configs={"4:2:0": "encoder_intra_main10.cfg"},
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
        reference_spec(
            "hm",
            factory="lossylens_codec_hm.codec:Hm",
            summary="HEVC intra by the reference software HM (the user's binaries)",
            citation="ITU-T H.265 | ISO/IEC 23008-2; HEVC Test Model (HM)",
            licence="Apache-2.0; HM is BSD-3-Clause",
            software=SOFTWARE,
            largest_qp=LARGEST_QP,
            published=PUBLISHED,
        )
    )
