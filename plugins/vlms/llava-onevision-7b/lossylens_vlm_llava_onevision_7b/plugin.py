"""Registers LLaVA-OneVision; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lossylens.hookspecs import hookimpl
from lossylens.vlm import VlmSpec
from lossylens_toolkit.transformers_vlm.vlm_options import (
    LlavaOnevisionOptions,
    needs_checkpoint,
    needs_gpus,
)


@dataclass
class Options(LlavaOnevisionOptions):
    """Options of LLaVA-OneVision-7B."""

    checkpoint: str = "llava-hf/llava-onevision-qwen2-7b-ov-hf"


@dataclass
class SmallOptions(LlavaOnevisionOptions):
    """Options of LLaVA-OneVision-0.5B."""

    checkpoint: str = "llava-hf/llava-onevision-qwen2-0.5b-ov-hf"


@hookimpl
def register_vlms(register: Callable[[VlmSpec], None]) -> None:
    """Register both sizes."""
    register(_spec("7b", Options, "8.0", 8030, 16.1))
    register(_spec("0.5b", SmallOptions, "0.9", 894, 1.8))


def _spec(
    size: str,
    options: type[LlavaOnevisionOptions],
    billions: str,
    parameters: float,
    gigabytes: float,
) -> VlmSpec:
    return VlmSpec(
        name=f"llava-onevision-{size}",
        summary=f"LLaVA-OneVision-{size.upper()}: SigLIP in tiles and Qwen2, {billions} billion "
        "parameters",
        category="open weights",
        factory="lossylens_toolkit.transformers_vlm.families.llava_onevision:LlavaOnevisionVlm",
        options=options,
        requirements=needs_checkpoint(gigabytes),
        parameters=parameters,
        gpus=needs_gpus(),
        max_images=32,
        citation="Li et al., LLaVA-OneVision: Easy Visual Task Transfer, arXiv:2408.03326",
        licence="Apache-2.0",
    )
