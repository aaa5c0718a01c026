"""Registers Qwen-VL-Chat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lossylens.errors import RequirementError
from lossylens.hookspecs import hookimpl
from lossylens.spec import Missing
from lossylens.vlm import VlmSpec
from lossylens_toolkit.transformers_vlm.checkpoint import find, lacking
from lossylens_toolkit.transformers_vlm.vlm_options import VlmOptions, needs_gpus

from lossylens_vlm_qwen_vl_chat.files import checkpoint_files

HUB_ID = "Qwen/Qwen-VL-Chat"


@dataclass
class QwenVLChatOptions(VlmOptions):
    """Options of Qwen-VL-Chat.

    Attributes:
        checkpoint: hub id or folder of the official files, shards as they are published.
        system: system prompt.
        picture_space: whether a space stands between ``Picture 1:`` and the image;
            releases differ, null takes what the checkpoint's own tokenizer code says.
    """

    checkpoint: str = HUB_ID
    system: str = "You are a helpful assistant."
    picture_space: bool | None = None


def missing(options: QwenVLChatOptions) -> Sequence[Missing]:
    """Return what of the checkpoint is not here."""
    try:
        checkpoint_files(find(options.checkpoint))
    except RequirementError as error:
        return (lacking(HUB_ID, 19.3, error),)
    return ()


@hookimpl
def register_vlms(register: Callable[[VlmSpec], None]) -> None:
    """Register ``qwen-vl-chat``."""
    register(
        VlmSpec(
            name="qwen-vl-chat",
            aliases=("qwen_chat",),
            summary="Qwen-VL-Chat: ViT-bigG with a resampler to 256 tokens, and Qwen-7B",
            category="transformers",
            factory="lossylens_vlm_qwen_vl_chat.vlm:QwenVLChatVlm",
            options=QwenVLChatOptions,
            requirements=missing,
            parameters=9657,
            gpus=needs_gpus(),
            max_images=7,
            grounds=True,
            citation="Bai et al., Qwen-VL, arXiv:2308.12966",
            licence="Apache-2.0; weights: Tongyi Qianwen licence agreement",
        )
    )
