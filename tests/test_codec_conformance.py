"""Every codec that is installed here passes the conformance suite, or cannot run here."""

import pytest
from lossylens.registry.plugins import load_registry
from lossylens.testing.conformance import CodecConformance

pytestmark = pytest.mark.slow


class TestCodec(CodecConformance):
    codecs = tuple(found.spec.name for found in load_registry(strict=False).all("codec"))


def test_there_are_codecs():
    assert {"uncompressed", "jpeg", "webp", "avif"} <= set(TestCodec.codecs)
