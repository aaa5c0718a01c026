"""The conformance suite, with the small VLMs and the codec's nano checkpoints."""

from __future__ import annotations

from typing import ClassVar

from lossylens.testing.adaptor_conformance import AdaptorConformance


class TestNeck(AdaptorConformance):
    adaptors = ("transform-neck",)
    vlm = "nano-llava"
    points = ("elic/lambda0.004",)
    codec_options: ClassVar = {
        "elic": {"variant": "nano", "device": "cpu", "dtype": "float32", "square": {"side": 192}}
    }
    training: ClassVar = {"device": "cpu", "entry": 1}


class TestPostProcessing(AdaptorConformance):
    adaptors = ("post-processing",)
    vlm = "nano-llava"
    points = ("jpeg/q5",)
    codec_options: ClassVar = {"jpeg": {"square": {"side": 192}}}
    training: ClassVar = {"device": "cpu", "channels": 2}
