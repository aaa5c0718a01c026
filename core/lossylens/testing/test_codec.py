"""Checks the codecs that ``--codec`` names."""

from lossylens.testing.codec import CodecConformance


class TestCodec(CodecConformance):
    """The conformance suite."""
