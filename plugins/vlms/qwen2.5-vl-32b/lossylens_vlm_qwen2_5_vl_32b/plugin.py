"""Registers Qwen2.5-VL-32B-Instruct; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lossylens.hookspecs import hookimpl
from lossylens.vlm import VlmSpec
from lossylens_toolkit.transformers_vlm.vlm_options import (
    Qwen25Options,
    needs_checkpoint,
    needs_gpus,
)


@dataclass
class Options(Qwen25Options):
    """Options of Qwen2.5-VL-32B-Instruct."""

    checkpoint: str = "Qwen/Qwen2.5-VL-32B-Instruct"


@hookimpl
def register_vlms(register: Callable[[VlmSpec], None]) -> None:
    """Register the model."""
    register(
        VlmSpec(
            name="qwen2.5-vl-32b",
            aliases=("qwen2.5-vl-32b-instruct",),
            summary="Qwen2.5-VL-32B-Instruct: 33.5 billion parameters, open weights",
            category="open weights",
            factory="lossylens_toolkit.transformers_vlm.families.qwen2_5_vl:Qwen25Vlm",
            options=Options,
            requirements=needs_checkpoint(gigabytes=66.9),
            parameters=33453,
            gpus=needs_gpus(2),
            max_images=64,
            grounds=True,
            citation="Bai et al., Qwen2.5-VL Technical Report, arXiv:2502.13923",
            licence="Apache-2.0",
        )
    )
