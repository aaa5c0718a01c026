"""Registers Janus-Pro-1B; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lossylens.hookspecs import hookimpl
from lossylens.vlm import VlmSpec
from lossylens_toolkit.transformers_vlm.vlm_options import (
    JanusOptions,
    needs_checkpoint,
    needs_gpus,
)


@dataclass
class Options(JanusOptions):
    """Options of Janus-Pro-1B."""

    checkpoint: str = "deepseek-community/Janus-Pro-1B"


@hookimpl
def register_vlms(register: Callable[[VlmSpec], None]) -> None:
    """Register the model."""
    register(
        VlmSpec(
            name="janus-pro-1b",
            summary="Janus-Pro-1B: 2.1 billion parameters, open weights",
            category="open weights",
            factory="lossylens_toolkit.transformers_vlm.families.janus:JanusVlm",
            options=Options,
            requirements=needs_checkpoint(gigabytes=4.2),
            parameters=2077,
            gpus=needs_gpus(),
            max_images=24,
            citation="Chen et al., Janus-Pro: Unified Multimodal Understanding and Generation "
            "with Data and Model Scaling, arXiv:2501.17811",
            licence="Apache-2.0 (weights: LicenseRef-DeepSeek-Model)",
        )
    )
