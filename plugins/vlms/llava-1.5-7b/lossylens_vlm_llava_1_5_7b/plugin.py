"""Registers LLaVA-1.5-7B; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lossylens.hookspecs import hookimpl
from lossylens.vlm import VlmSpec
from lossylens_toolkit.transformers_vlm.vlm_options import (
    LlavaOptions,
    needs_checkpoint,
    needs_gpus,
)


@dataclass
class Options(LlavaOptions):
    """Options of LLaVA-1.5-7B."""

    checkpoint: str = "llava-hf/llava-1.5-7b-hf"


@hookimpl
def register_vlms(register: Callable[[VlmSpec], None]) -> None:
    """Register the model."""
    register(
        VlmSpec(
            name="llava-1.5-7b",
            summary="LLaVA-1.5-7B: CLIP's image encoder and Vicuna, 7.1 billion parameters",
            category="open weights",
            factory="lossylens_toolkit.transformers_vlm.families.llava:LlavaVlm",
            options=Options,
            requirements=needs_checkpoint(gigabytes=14.1),
            parameters=7063,
            gpus=needs_gpus(),
            max_images=7,
            grounds=True,
            citation="Liu et al., Improved Baselines with Visual Instruction Tuning, "
            "arXiv:2310.03744",
            licence="Apache-2.0; weights: Llama 2 Community License",
        )
    )
