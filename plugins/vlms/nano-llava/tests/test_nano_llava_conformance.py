"""The conformance suite, on the bundled checkpoint."""

from __future__ import annotations

from lossylens.testing.vlm_conformance import VlmConformance


class TestConformance(VlmConformance):
    vlms = ("nano-llava",)
