"""Checks the VLMs that ``--vlm`` names."""

from lossylens.testing.vlm_conformance import VlmConformance


class TestVlm(VlmConformance):
    """The conformance suite."""
