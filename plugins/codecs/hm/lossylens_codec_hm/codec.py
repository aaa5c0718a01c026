"""HEVC intra coding by its reference software, HM."""

from __future__ import annotations

from lossylens_toolkit.external_codec.reference import ReferenceCodec

from lossylens_codec_hm.plugin import LARGEST_QP, SOFTWARE


class Hm(ReferenceCodec):
    """HM at one quantisation parameter; see the README for settings and rate."""

    name = "hm"
    standard = "hevc"
    largest_qp = LARGEST_QP
    software = SOFTWARE
