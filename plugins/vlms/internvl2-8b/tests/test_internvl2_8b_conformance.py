"""The conformance suite, on a tiny checkpoint in the layout of the official one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from lossylens.testing.vlm_conformance import VlmConformance


class TestConformance(VlmConformance):
    vlms = ("internvl2-8b",)

    @pytest.fixture(scope="class")
    @classmethod
    def plugin_options(cls, folder: Path) -> Mapping[str, Any]:
        """The options, with the tiny checkpoint."""
        return {"checkpoint": str(folder), "device": "cpu"}
