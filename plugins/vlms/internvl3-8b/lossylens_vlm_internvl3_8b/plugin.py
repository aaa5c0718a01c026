"""Registers InternVL3-8B; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lossylens.hookspecs import hookimpl
from lossylens.vlm import VlmSpec
from lossylens_toolkit.transformers_vlm.vlm_options import (
    InternVLOptions,
    needs_checkpoint,
    needs_gpus,
)


@dataclass
class Options(InternVLOptions):
    """Options of InternVL3-8B."""

    checkpoint: str = "OpenGVLab/InternVL3-8B-hf"


@hookimpl
def register_vlms(register: Callable[[VlmSpec], None]) -> None:
    """Register the model."""
    register(
        VlmSpec(
            name="internvl3-8b",
            summary="InternVL3-8B: 7.9 billion parameters, open weights",
            category="open weights",
            factory="lossylens_toolkit.transformers_vlm.families.internvl:InternVLVlm",
            options=Options,
            requirements=needs_checkpoint(gigabytes=15.9),
            parameters=7944,
            gpus=needs_gpus(),
            max_images=64,
            grounds=True,
            citation="Zhu et al., InternVL3: Exploring Advanced Training and Test-Time Recipes "
            "for Open-Source Multimodal Models, arXiv:2504.10479",
            licence="Apache-2.0",
        )
    )
