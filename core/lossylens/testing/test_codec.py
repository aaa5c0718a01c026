"""Checks the codecs that ``--codec`` names."""

from lossylens.testing.conformance import CodecConformance


class TestCodec(CodecConformance):
    """The conformance suite."""
