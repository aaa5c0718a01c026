"""The conformance suite, for both methods."""

from __future__ import annotations

from typing import ClassVar

from lossylens.testing.adaptor_conformance import AdaptorConformance


class TestNetwork(AdaptorConformance):
    adaptors = ("restore",)
    vlm = "nano"
    training: ClassVar = {"crop": 32, "width": 4, "dilations": [1, 2]}


class TestShifts(AdaptorConformance):
    adaptors = ("restore",)
    options: ClassVar = {"method": "shifts", "shifts": 2}
    vlm = "nano"
    training = None
