"""The conformance suite, with the VLM of few parameters."""

from __future__ import annotations

from lossylens.testing.adaptor_conformance import AdaptorConformance


class TestConformance(AdaptorConformance):
    adaptors = ("cve",)
    vlm = "nano"
    points = ("jpeg/q1", "jpeg/q10")
