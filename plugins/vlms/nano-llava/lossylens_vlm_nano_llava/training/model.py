"""nano-llava as it is trained: nano-clip, which stays as it is, a projector, a language model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lossylens_nano_clip.architecture import PATCH, SIDE
from lossylens_vlm_nano.architecture import IMAGE_PAD
from lossylens_vlm_nano.architecture import configuration as nano_configuration
from lossylens_vlm_nano.training.model import TrainedVlm
from torch import Tensor
from transformers import (
    CLIPImageProcessor,
    CLIPModel,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerBase,
    Qwen2Config,
)

#: Visual tokens of a picture.
TOKENS = (SIDE // PATCH) ** 2


def llava_configuration(tokenizer: PreTrainedTokenizerBase, clip: CLIPModel) -> LlavaConfig:
    """Return the model configuration.

    The language model has the sizes of nano's; the layer before the last of *clip* is read.
    """
    nano: Any = nano_configuration(tokenizer).text_config
    same = (
        "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads"
        " num_key_value_heads max_position_embeddings bos_token_id eos_token_id pad_token_id"
    )
    text = {name: getattr(nano, name) for name in same.split()}
    rope = {"rope_type": "default", "rope_theta": nano.rope_parameters["rope_theta"]}
    image_token: Any = tokenizer.convert_tokens_to_ids(IMAGE_PAD)
    return LlavaConfig(
        text_config=Qwen2Config(**text, rope_parameters=rope, tie_word_embeddings=True),
        vision_config=clip.config.vision_config,
        image_token_index=image_token,
        image_seq_length=TOKENS,
        projector_hidden_act="gelu",
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        tie_word_embeddings=True,
    )


def new_llava(
    tokenizer: PreTrainedTokenizerBase, clip_folder: Path
) -> LlavaForConditionalGeneration:
    """Return a model that sees through the CLIP in *clip_folder*, all else freshly initialised."""
    clip = CLIPModel.from_pretrained(clip_folder, dtype=torch.float32)
    model = LlavaForConditionalGeneration(llava_configuration(tokenizer, clip))
    seen: Any = clip.vision_model
    tower: Any = model.model.vision_tower
    tower.load_state_dict(seen.state_dict())
    return model


class TrainedLlava(TrainedVlm):
    """The model and its losses; of nano-clip, the patches before the last layer are features."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: LlavaForConditionalGeneration, compiled: bool) -> None:
        super().__init__(model, compiled)
        processor = CLIPImageProcessor()
        for name, values in (("mean", processor.image_mean), ("std", processor.image_std)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def features(self, images: Tensor) -> Tensor:
        """Return what nano-clip sees in each patch, (B, patches, width)."""
        pixels = (images.float() / 255 - self.mean) / self.std
        seen = self.model.model.vision_tower(pixel_values=pixels, output_hidden_states=True)
        patches: Tensor = seen.hidden_states[-2][:, 1:]
        return patches

    def visual_tokens(self, features: Tensor) -> Tensor:
        """Return the projected features."""
        projected: Tensor = self.model.model.multi_modal_projector(features)
        return projected
