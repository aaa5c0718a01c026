"""Registers the nano VLM; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from lossylens.hookspecs import hookimpl
from lossylens.vlm import VlmSpec
from lossylens_toolkit.transformers_vlm.vlm_options import VlmOptions


@dataclass
class NanoOptions(VlmOptions):
    """Options of the nano VLM.

    Attributes:
        checkpoint: folder of another checkpoint; empty for the bundled one.
        dtype: float32 also on a GPU, where so small a model gains nothing by less.
    """

    checkpoint: str = ""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "float32"


@hookimpl
def register_vlms(register: Callable[[VlmSpec], None]) -> None:
    """Register ``nano``."""
    register(
        VlmSpec(
            name="nano",
            summary="5 M parameter VLM of the Qwen2.5-VL architecture, trained on scenes",
            category="nano",
            factory="lossylens_vlm_nano.vlm:Nano",
            options=NanoOptions,
            parameters=5.3,
            max_images=32,
            grounds=True,
            citation="architecture: Bai et al., Qwen2.5-VL Technical Report, arXiv:2502.13923",
            licence="Apache-2.0",
        )
    )
