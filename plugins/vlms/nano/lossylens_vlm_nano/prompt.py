"""The nano VLM's prompt: one user turn that holds the picture, then the text."""

from __future__ import annotations

from lossylens_vlm_nano.architecture import (
    IMAGE_PAD,
    TURN_END,
    TURN_START,
    VISION_END,
    VISION_START,
)


def prompt_prefix(visual_tokens: int) -> str:
    """Return what precedes every question about a picture of *visual_tokens*."""
    return f"{TURN_START}user\n{VISION_START}{IMAGE_PAD * visual_tokens}{VISION_END}"


def prompt_suffix(text: str) -> str:
    """Return the question *text* and the opening of the answer."""
    return f"{text}{TURN_END}\n{TURN_START}assistant\n"
