"""Registers the nano VLM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lossylens.hookspecs import hookimpl
from lossylens.vlm import VlmSpec


@dataclass
class NanoOptions:
    """Options of the nano VLM.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        checkpoint: folder of another checkpoint; empty for the bundled one.
        batch_images: pictures per batch.
        rows_at_once: questions decoded together.
    """

    device: str = "auto"
    checkpoint: str = ""
    batch_images: int = 8
    rows_at_once: int = 192


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
            citation="architecture: Bai et al., Qwen2.5-VL Technical Report, arXiv:2502.13923",
            licence="Apache-2.0",
        )
    )
