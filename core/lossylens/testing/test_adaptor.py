"""Checks the adaptors that ``--adaptor`` names."""

from lossylens.testing.adaptor_conformance import AdaptorConformance


class TestAdaptor(AdaptorConformance):
    """The conformance suite."""
