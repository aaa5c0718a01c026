"""The architectures in their published sizes, with random weights made on the device.

There is no checkpoint: a folder holds configuration, tokenizer and image processor, and the
model is built where it is to be.  All else is what loads a published checkpoint.  The
tokenizer is trained on the spot on the texts that are asked, so that a word is a token or
two, as it is to the published ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from lossylens.vlm import default_prompt
from lossylens_toolkit.transformers_vlm.families import internvl, qwen2_5_vl
from lossylens_toolkit.transformers_vlm.families.llava import SYSTEM as LLAVA
from lossylens_toolkit.transformers_vlm.transformers_model import TransformersVlm
from lossylens_toolkit.transformers_vlm.vlm_options import (
    VlmOptions,
)
from lossylens_toolkit.transformers_vlm.wording import (
    internvl_wording,
    janus_wording,
    llava_wording,
)
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPVisionConfig,
    InternVLConfig,
    JanusConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaOnevisionConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2Config,
    SiglipVisionConfig,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.janus.image_processing_pil_janus import JanusImageProcessorPil
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
    LlavaOnevisionImageProcessorPil,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from gpu_parts.asked import QUESTIONS

Sizes = Mapping[str, Any]

_ROPE = {"rope_type": "default", "rope_theta": 1e6}
_CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_PROMPTS = ("user\n", "\nassistant\n", "system\n", "\n\nAssistant:", "User: ", LLAVA)


@dataclass(frozen=True)
class Architecture:
    """A model of published size, or a tiny one of the same kind.

    Attributes:
        name: of its plugin.
        vlm: what loads a checkpoint of it.
        options: of that class.
        make: writes tokenizer and image processor, and returns the configuration.
        given: options other than the defaults.
    """

    name: str
    vlm: type[TransformersVlm]
    options: type[VlmOptions]
    make: Callable[[Path], Any]
    given: Mapping[str, Any]


def qwen(text: Sizes, vision: Sizes, sections: list[int]) -> Callable[[Path], Any]:
    """Return what makes a Qwen2.5-VL."""

    def make(folder: Path) -> Any:
        names = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
        tokenizer = _tokenizer([*_CHATML, *names], qwen2_5_vl.SYSTEM, eos=2, pad=0)
        tokenizer.save_pretrained(folder)
        Qwen2VLImageProcessorPil().save_pretrained(folder)
        start, end, image, video = (_id(tokenizer, name) for name in names)
        return Qwen2_5_VLConfig(
            text_config={
                **text,
                "rope_parameters": {**_ROPE, "mrope_section": sections},
                **_special(tokenizer),
            },
            vision_config={**vision, "out_hidden_size": text["hidden_size"]},
            image_token_id=image,
            video_token_id=video,
            vision_start_token_id=start,
            vision_end_token_id=end,
            tie_word_embeddings=text["tie_word_embeddings"],
        )

    return make


def intern(text: Sizes, vision: Sizes, side: int) -> Callable[[Path], Any]:
    """Return what makes an InternVL3 whose tiles have *side* pixels."""

    def make(folder: Path) -> Any:
        named = {
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        }
        specials = [*_CHATML, *named.values()]
        tokenizer = _tokenizer(specials, internvl.SYSTEM, eos=2, pad=0, named=named)
        tokenizer.save_pretrained(folder)
        GotOcr2ImageProcessorPil(size={"height": side, "width": side}).save_pretrained(folder)
        return InternVLConfig(
            text_config={
                "model_type": "qwen2",
                **text,
                "rope_parameters": _ROPE,
                **_special(tokenizer),
            },
            vision_config={
                **vision,
                "image_size": [side, side],
                "patch_size": [14, 14],
                "attention_bias": True,
            },
            image_token_id=_id(tokenizer, "<IMG_CONTEXT>"),
            image_seq_length=(side // 14) ** 2 // 4,
            downsample_ratio=0.5,
            tie_word_embeddings=False,
        )

    return make


def janus(text: Sizes, vision: Sizes, side: int, vq: Sizes) -> Callable[[Path], Any]:
    """Return what makes a Janus-Pro whose images have *side* pixels along each side."""

    def make(folder: Path) -> Any:
        begin, end, pad = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"
        named = {
            "image_token": "<image_placeholder>",
            "boi_token": "<begin_of_image>",
            "eoi_token": "<end_of_image>",
        }
        specials = [begin, end, pad, *named.values()]
        tokenizer = _tokenizer(specials, "", bos=0, eos=1, pad=2, named=named)
        tokenizer.save_pretrained(folder)
        size = {"height": side, "width": side}
        JanusImageProcessorPil(size=size, min_size=14).save_pretrained(folder)
        width = text["hidden_size"]
        return JanusConfig(
            text_config={"model_type": "llama", **text, **_special(tokenizer)},
            vision_config={
                **{name: value for name, value in vision.items() if name != "intermediate_size"},
                "image_size": side,
                "patch_size": 16,
                "mlp_ratio": vision["intermediate_size"] / vision["hidden_size"],
                "depth": 2,
                "projection_dim": width,
                "num_image_tokens": (side // 16) ** 2,
            },
            vq_config={"projection_dim": width, "image_token_embed_dim": width, **vq},
            image_token_id=_id(tokenizer, "<image_placeholder>"),
            tie_word_embeddings=False,
        )

    return make


def llava(text: Sizes, vision: Sizes, side: int) -> Callable[[Path], Any]:
    """Return what makes a LLaVA-1.5 whose images have *side* pixels along each side."""

    def make(folder: Path) -> Any:
        tokenizer = _tokenizer(["<unk>", "<s>", "</s>", "<image>"], "", bos=1, eos=2, pad=0)
        tokenizer.save_pretrained(folder)
        square = {"height": side, "width": side}
        CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size=square).save_pretrained(
            folder
        )
        return LlavaConfig(
            text_config=LlamaConfig(**text, **_special(tokenizer)),
            vision_config=CLIPVisionConfig(**vision, image_size=side, patch_size=14),
            image_token_index=_id(tokenizer, "<image>"),
            image_seq_length=(side // 14) ** 2,
            tie_word_embeddings=False,
        )

    return make


def llava_onevision(text: Sizes, vision: Sizes, side: int, most: int) -> Callable[[Path], Any]:
    """Return what makes a LLaVA-OneVision of up to *most* by *most* tiles of *side* pixels."""

    def make(folder: Path) -> Any:
        tokenizer = _tokenizer([*_CHATML, "<image>"], "", eos=2, pad=0)
        tokenizer.save_pretrained(folder)
        tiles = range(1, most + 1)
        sizes = [[side * rows, side * columns] for rows in tiles for columns in tiles]
        LlavaOnevisionImageProcessorPil(
            size={"height": side, "width": side}, image_grid_pinpoints=sizes
        ).save_pretrained(folder)
        return LlavaOnevisionConfig(
            text_config=Qwen2Config(**text, rope_parameters=_ROPE, **_special(tokenizer)),
            vision_config=SiglipVisionConfig(
                **vision, image_size=side, patch_size=14, vision_use_head=False
            ),
            image_token_index=_id(tokenizer, "<image>"),
            image_grid_pinpoints=sizes,
            vision_feature_layer=-1,
            tie_word_embeddings=False,
        )

    return make


def random_vlm(
    architecture: Architecture, folder: Path, device: torch.device, dtype: torch.dtype
) -> Any:
    """Return a VLM with random weights, which are made when it is first asked.

    Its attribute ``whole`` is then transformers' model.  It never ends an answer by itself:
    answers have as many tokens as are admitted.

    Args:
        architecture: of the model.
        folder: empty; tokenizer and processor are written there.
        device: where the weights are made.
        dtype: of the weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = architecture.make(folder)
    config.save_pretrained(folder)

    class Random(architecture.vlm):  # type: ignore[name-defined,misc]
        whole: Any = None

        def weight_files(self) -> list[Path]:
            return []

        def pretrained(self) -> Any:
            self.whole = built(self.model_class, config, device, dtype)
            return self.whole

    given: dict[str, Any] = {"dtype": str(dtype).removeprefix("torch."), **architecture.given}
    options = architecture.options(checkpoint=str(folder), device=str(device), **given)
    return Random(options)


def built(model_class: Any, config: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """Return a model with random weights whose end token is never the likeliest."""
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            model = model_class(config)
    finally:
        torch.set_default_dtype(before)
    model.generation_config.update(**_ends(config))
    with torch.no_grad():
        for parameter in model.parameters():
            # Else embeddings outweigh what layers add, and all answers are the same.
            if parameter.ndim in (2, 4, 5):
                parameter.normal_(0, prod(parameter.shape[1:]) ** -0.5)
        # Logits of the others are as often above zero as below.
        model.lm_head.weight[config.text_config.eos_token_id].zero_()
    return model.eval().requires_grad_(False)


def _ends(config: Any) -> dict[str, int]:
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    return {name: getattr(config.text_config, name) for name in names}


def _tokenizer(
    specials: list[str],
    system: str,
    *,
    eos: int,
    pad: int,
    bos: int | None = None,
    named: Mapping[str, str] | None = None,
) -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        min_frequency=1,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[AddedToken(token, special=True) for token in specials],
    )
    bpe.train_from_iterator(_corpus(system), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=None if bos is None else specials[bos],
        eos_token=specials[eos],
        pad_token=specials[pad],
        extra_special_tokens=dict(named or {}),
    )


def _corpus(system: str) -> Iterable[str]:
    for wording in (default_prompt, internvl_wording, janus_wording, llava_wording):
        yield from map(wording, QUESTIONS)
    yield from (*_PROMPTS, system)


def _id(tokenizer: Any, token: str) -> int:
    return int(tokenizer.convert_tokens_to_ids(token))


def _special(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
