"""Tiny random checkpoints of each architecture.

Checkpoints are written as folders, in the layout of the published checkpoints, so that what is
tested is what loads these.  Nothing is downloaded: the tokenizer is a byte-level BPE
without merges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lossylens.codec import SOURCE, CodecPoint
from lossylens.vlm import Condition, ImageQuestions, Question
from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    JanusConfig,
    JanusForConditionalGeneration,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.janus.image_processing_pil_janus import JanusImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
    LlavaOnevisionImageProcessorPil,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

#: A decoder of two layers, for all architectures.
_TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}

#: Ends of the names of weights that are vectors, and neither biases nor of norms.
_VECTORS = ("lambda_1", "lambda_2", "class_embedding", "image_newline")

_CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def byte_tokenizer(
    specials: Sequence[str], *, eos: str, pad: str, bos: str | None = None, **named: str
) -> PreTrainedTokenizerFast:
    """Return a tokenizer of bytes and *specials*.

    Args:
        specials: special tokens.
        eos: the one that ends a sequence.
        pad: the one that fills up.
        bos: the one that begins a sequence.
        named: special tokens by which attribute of the tokenizer they are had.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe = Tokenizer(models.BPE({symbol: number for number, symbol in enumerate(alphabet)}, []))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.add_special_tokens([AddedToken(token, special=True) for token in specials])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=bos,
        eos_token=eos,
        pad_token=pad,
        extra_special_tokens=named,
    )


def randomise(model: Any, std: float = 0.15, seed: int = 3) -> Any:
    """Give *model* random weights, large enough for its answers to differ."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 or name.endswith(_VECTORS):
                parameter.normal_(0, std, generator=generator)
    return model.eval()


def save_qwen2_5_vl(
    folder: Path,
    text: Mapping[str, Any] | None = None,
    vision: Mapping[str, Any] | None = None,
    *,
    pixels: tuple[int, int] = (56 * 56, 196 * 196),
    std: float = 0.15,
) -> None:
    """Write a Qwen2.5-VL checkpoint to *folder*; *text* and *vision* change its sizes."""
    specials = [*_CHATML, "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    tokenizer = byte_tokenizer(specials, eos="<|im_end|>", pad="<|endoftext|>")
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 1, 1]}
    text = {**_TEXT, "rope_parameters": rope, **_special(tokenizer), **(text or {})}
    tower = {
        "depth": 4,
        "hidden_size": 40,
        "num_heads": 2,
        "intermediate_size": 64,
        "fullatt_block_indexes": [1, 3],
        "window_size": 56,
        "patch_size": 14,
        "out_hidden_size": text["hidden_size"],
        **(vision or {}),
    }
    token: Any = tokenizer.convert_tokens_to_ids
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config=tower,
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
    )
    processor = Qwen2VLImageProcessorPil(min_pixels=pixels[0], max_pixels=pixels[1])
    _save(folder, Qwen2_5_VLForConditionalGeneration(config), tokenizer, processor, std)


def save_internvl(
    folder: Path,
    text: Mapping[str, Any] | None = None,
    vision: Mapping[str, Any] | None = None,
    *,
    std: float = 0.15,
) -> None:
    """Write an InternVL3 checkpoint to *folder*; *text* and *vision* change its sizes."""
    named = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    specials = [*_CHATML, *named.values()]
    tokenizer = byte_tokenizer(specials, eos="<|im_end|>", pad="<|endoftext|>", **named)
    tower = {
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "image_size": [56, 56],
        "patch_size": [14, 14],
        "attention_bias": True,
        **(vision or {}),
    }
    side = tower["image_size"][0]
    config = InternVLConfig(
        text_config={"model_type": "qwen2", **_TEXT, **_special(tokenizer), **(text or {})},
        vision_config=tower,
        image_token_id=_id(tokenizer, "<IMG_CONTEXT>"),
        image_seq_length=(side // tower["patch_size"][0]) ** 2 // 4,
        downsample_ratio=0.5,
        tie_word_embeddings=False,
    )
    processor = GotOcr2ImageProcessorPil(size={"height": side, "width": side})
    _save(folder, InternVLForConditionalGeneration(config), tokenizer, processor, std)


def save_janus(
    folder: Path,
    text: Mapping[str, Any] | None = None,
    vision: Mapping[str, Any] | None = None,
    *,
    std: float = 0.15,
) -> None:
    """Write a Janus-Pro checkpoint to *folder*; *text* and *vision* change its sizes."""
    begin, end, pad = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"
    image = ("<image_placeholder>", "<begin_of_image>", "<end_of_image>")
    tokenizer = byte_tokenizer(
        [begin, end, pad, *image],
        bos=begin,
        eos=end,
        pad=pad,
        image_token=image[0],
        boi_token=image[1],
        eoi_token=image[2],
    )
    text = {"model_type": "llama", **_TEXT, **_special(tokenizer), **(text or {})}
    tower = {
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "image_size": 64,
        "patch_size": 16,
        "mlp_ratio": 2.0,
        "depth": 2,
        "projection_dim": text["hidden_size"],
        **(vision or {}),
    }
    side = tower["image_size"]
    tower["num_image_tokens"] = (side // tower["patch_size"]) ** 2
    config = JanusConfig(
        text_config=text,
        vision_config=tower,
        # The half that makes images; its group norms want multiples of 32.
        vq_config={
            "embed_dim": 8,
            "num_embeddings": 32,
            "latent_channels": 32,
            "base_channels": 32,
            "channel_multiplier": [1, 1],
            "num_res_blocks": 1,
            "num_patches": 4,
            "projection_dim": text["hidden_size"],
            "image_token_embed_dim": text["hidden_size"],
        },
        image_token_id=_id(tokenizer, image[0]),
        tie_word_embeddings=False,
    )
    processor = JanusImageProcessorPil(size={"height": side, "width": side}, min_size=2)
    _save(folder, JanusForConditionalGeneration(config), tokenizer, processor, std)


def save_llava(
    folder: Path,
    text: Mapping[str, Any] | None = None,
    vision: Mapping[str, Any] | None = None,
    *,
    std: float = 0.25,
) -> None:
    """Write a LLaVA-1.5 checkpoint to *folder*; *text* and *vision* change its sizes."""
    named = {"image_token": "<image>"}
    specials = ["<unk>", "<s>", "</s>", "<pad>", *named.values()]
    tokenizer = byte_tokenizer(specials, bos="<s>", eos="</s>", pad="<pad>", **named)
    tower = {
        "model_type": "clip_vision_model",
        "hidden_size": 32,
        "intermediate_size": 64,
        # The last is not read.
        "num_hidden_layers": 5,
        "num_attention_heads": 4,
        "image_size": 56,
        "patch_size": 14,
        "projection_dim": 16,
        **(vision or {}),
    }
    side = tower["image_size"]
    config = LlavaConfig(
        text_config={"model_type": "llama", **_TEXT, **_special(tokenizer), **(text or {})},
        vision_config=tower,
        image_token_index=_id(tokenizer, "<image>"),
        image_seq_length=(side // tower["patch_size"]) ** 2,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        tie_word_embeddings=False,
    )
    # As published: it crops.
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": side}, crop_size={"height": side, "width": side}
    )
    _save(folder, LlavaForConditionalGeneration(config), tokenizer, processor, std)


def save_llava_onevision(
    folder: Path,
    text: Mapping[str, Any] | None = None,
    vision: Mapping[str, Any] | None = None,
    *,
    most: int = 2,
    std: float = 0.15,
) -> None:
    """Write a LLaVA-OneVision checkpoint to *folder*.

    Args:
        folder: where to.
        text: changes sizes of the language model.
        vision: changes sizes of the vision encoder.
        most: tiles whose patches an image may have; more are scaled down to these.
        std: of the weights.
    """
    named = {"image_token": "<image>", "video_token": "<video>"}
    tokenizer = byte_tokenizer(
        [*_CHATML, *named.values()], eos="<|im_end|>", pad="<|endoftext|>", **named
    )
    tower = {
        "model_type": "siglip_vision_model",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        # Not a multiple of the patches, as with the published ones.
        "image_size": 48,
        "patch_size": 14,
        "vision_use_head": False,
        **(vision or {}),
    }
    side = tower["image_size"]
    sides = (side, 2 * side, 3 * side)
    pairs = [(down, across) for down in sides for across in sides]
    resolutions = [list(pair) for pair in pairs if pair[0] * pair[1] <= 4 * side**2]
    config = LlavaOnevisionConfig(
        text_config={"model_type": "qwen2", **_TEXT, **_special(tokenizer), **(text or {})},
        vision_config=tower,
        image_token_index=_id(tokenizer, "<image>"),
        video_token_index=_id(tokenizer, "<video>"),
        image_grid_pinpoints=resolutions,
        vision_aspect_ratio=f"anyres_max_{most}",
        tie_word_embeddings=False,
    )
    processor = LlavaOnevisionImageProcessorPil(
        size={"height": side, "width": side}, image_grid_pinpoints=resolutions
    )
    _save(folder, LlavaOnevisionForConditionalGeneration(config), tokenizer, processor, std)


#: How to write a checkpoint of each ``model_type``.
SAVE: Mapping[str, Callable[[Path], None]] = {
    "qwen2_5_vl": save_qwen2_5_vl,
    "internvl": save_internvl,
    "janus": save_janus,
    "llava": save_llava,
    "llava_onevision": save_llava_onevision,
}


def _id(tokenizer: Any, token: str) -> int:
    return int(tokenizer.convert_tokens_to_ids(token))


def _special(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _save(folder: Path, model: Any, tokenizer: Any, processor: Any, std: float) -> None:
    model.generation_config.update(**{k: v for k, v in _special(tokenizer).items() if "token" in k})
    randomise(model, std).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    processor.save_pretrained(folder)


def blocks(width: int, height: int, seed: int) -> Image.Image:
    """Return an image of random rectangles, which scaling does not wash out."""
    rng = np.random.default_rng(seed)
    colours = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize((width, height), Image.Resampling.NEAREST)


def about(
    images: Image.Image | Sequence[Image.Image], *questions: Question, point: CodecPoint = SOURCE
) -> ImageQuestions:
    """Return *questions* about an image, or several, that *point* compressed."""
    given = (images,) if isinstance(images, Image.Image) else tuple(images)
    return ImageQuestions(given, questions, tuple(Condition(point, each.size) for each in given))


def generate_alone(model: Any, prompt: Sequence[int], limit: int, **inputs: Any) -> list[int]:
    """Return what transformers' ``generate`` writes to one prompt, end token excluded.

    Args:
        model: as transformers loads it.
        prompt: token ids, visual placeholders included.
        limit: most tokens to write.
        inputs: what the image processor returned, for the images in the prompt's order.
    """
    ids = torch.tensor([list(prompt)], device=model.device)
    if "image_grid_thw" in inputs:
        inputs["mm_token_type_ids"] = (ids == model.config.image_token_id).int()
    # Not through JanusForConditionalGeneration.generate, which is about making images.
    model.generation_config.max_length = None
    with torch.inference_mode():
        out = super(type(model), model).generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=limit,
            do_sample=False,
            guidance_scale=None,
            **inputs,
        )
    written: list[int] = out[0, len(prompt) :].tolist()
    end = model.generation_config.eos_token_id
    return written[: written.index(end)] if end in written else written


def llava_inputs(model: Any, processor: Any, images: Sequence[Image.Image]) -> dict[str, Any]:
    """Return what transformers makes of the images of one question, for a LLaVA of any kind.

    LLaVA-1.5's processor of transformers pads where it is told to, as the authors' code does.

    Args:
        model: as transformers loads it.
        processor: of the checkpoint.
        images: in the prompt's order.
    """
    if model.config.model_type == "llava":
        side = model.config.vision_config.image_size
        padding = LlavaImageProcessorPil(
            size={"shortest_edge": side}, crop_size={"height": side, "width": side}, do_pad=True
        )
        return dict(padding(images=list(images), return_tensors="pt"))
    # In a list of their own, several are those of one question, and are not cut.
    return dict(processor(images=[list(images)], return_tensors="pt"))
