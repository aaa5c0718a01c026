"""HM: levels, command line, golden numbers of HM 18.0; the whole codec with stand-ins."""

from pathlib import Path
from typing import ClassVar

import pytest
from lossylens.testing.conformance import CodecConformance
from lossylens.testing.registering import registered
from lossylens_codec_hm.codec import Hm
from lossylens_codec_hm.plugin import SOFTWARE, register_codecs
from lossylens_toolkit.external_codec.program_suite import ReferenceTests, WithStandIns


class TestHm(ReferenceTests):
    codec = Hm
    spec = registered(register_codecs)
    golden = Path(__file__).with_name("golden.json")
    version = "[18.0]"
    levels = ("qp51", "qp50", "qp49", "qp47", "qp45", "qp42", "qp40")
    level_sets: ClassVar = {
        "pope": ("qp50", "qp47", "qp45", "qp40"),
        "COCO_caption": ("qp50", "qp47", "qp45", "qp40"),
        "mme": ("qp51", "qp49", "qp45", "qp42"),
    }
    outside = "qp52"
    configs: ClassVar = {"4:4:4": "encoder_intra_main_rext.cfg", "4:2:0": "encoder_intra_main.cfg"}


@pytest.mark.slow
class TestConformance(WithStandIns, CodecConformance):
    """With stand-ins; how it does with HM is told by ``--codec hm`` where HM is."""

    codecs = ("hm",)
    software = SOFTWARE
