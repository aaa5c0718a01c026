"""VTM: levels, command line, golden numbers of VTM 23.13."""

from pathlib import Path
from typing import ClassVar

from lossylens.testing.registering import registered
from lossylens_codec_vtm.codec import Vtm
from lossylens_codec_vtm.plugin import register_codecs
from lossylens_toolkit.external_codec.program_suite import ReferenceTests


class TestVtm(ReferenceTests):
    codec = Vtm
    spec = registered(register_codecs)
    golden = Path(__file__).with_name("golden.json")
    version = "23.13"
    levels = ("qp53", "qp50", "qp49", "qp45", "qp42", "qp40")
    level_sets: ClassVar = {
        "pope": ("qp53", "qp50", "qp45", "qp40"),
        "COCO_caption": ("qp53", "qp50", "qp45", "qp40"),
        "mme": ("qp53", "qp49", "qp45", "qp42"),
    }
    outside = "qp64"
    configs: ClassVar = dict.fromkeys(("4:4:4", "4:2:0"), "encoder_intra_vtm.cfg")
