"""VVC intra coding by its reference software, VTM."""

from __future__ import annotations

from lossylens_toolkit.external_codec.reference import ReferenceCodec

from lossylens_codec_vtm.plugin import LARGEST_QP, SOFTWARE


class Vtm(ReferenceCodec):
    """VTM at one quantisation parameter; see the README for settings and rate."""

    name = "vtm"
    standard = "vvc"
    largest_qp = LARGEST_QP
    software = SOFTWARE
