"""Registers nano-llava; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from lossylens.hookspecs import hookimpl
from lossylens.vlm import VlmSpec
from lossylens_toolkit.transformers_vlm.vlm_options import VlmOptions


@dataclass
class NanoLlavaOptions(VlmOptions):
    """Options of nano-llava.

    Attributes:
        checkpoint: folder of another checkpoint; empty for the bundled one.
        dtype: float32 also on a GPU, where so small a model gains nothing by less.
    """

    checkpoint: str = ""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "float32"


@hookimpl
def register_vlms(register: Callable[[VlmSpec], None]) -> None:
    """Register ``nano-llava``."""
    register(
        VlmSpec(
            name="nano-llava",
            summary="4 M parameter VLM of the LLaVA architecture that sees through nano-clip",
            category="nano",
            factory="lossylens_vlm_nano_llava.vlm:NanoLlavaVlm",
            options=NanoLlavaOptions,
            parameters=4.1,
            max_images=16,
            citation="architecture: Liu et al., Improved Baselines with Visual Instruction "
            "Tuning, arXiv:2310.03744",
            licence="Apache-2.0",
        )
    )
