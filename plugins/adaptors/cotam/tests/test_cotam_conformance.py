"""The conformance suite, with the VLM of few parameters and the codec's nano checkpoint."""

from __future__ import annotations

from typing import ClassVar

from lossylens.testing.adaptor_conformance import AdaptorConformance


class TestConformance(AdaptorConformance):
    adaptors = ("cotam",)
    vlm = "nano"
    points = ("cotam-elic/lambda0.0128", "cotam-elic/lambda0.0512")
    codec_options: ClassVar = {
        "cotam-elic": {"variant": "nano", "device": "cpu", "guidance": "none", "dtype": "float32"}
    }
    training: ClassVar = {"device": "cpu", "grid": 4}
