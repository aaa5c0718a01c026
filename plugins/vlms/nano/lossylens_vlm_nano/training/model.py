"""The nano VLM with what training adds to it: a dense head, and a batched forward."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen2_5_VLForConditionalGeneration,
)

from lossylens_vlm_nano.architecture import SIDE, configuration
from lossylens_vlm_nano.training.data import IGNORED, Batch
from lossylens_vlm_nano.training.forward import TextForward, VisionForward, patchify
from lossylens_vlm_nano.training.targets import CHANNELS


def new_model(tokenizer: PreTrainedTokenizerBase) -> Qwen2_5_VLForConditionalGeneration:
    """Return a freshly initialised model."""
    model = Qwen2_5_VLForConditionalGeneration(configuration(tokenizer))
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            fan_in = parameter[0].numel()
            nn.init.normal_(parameter, std=min(fan_in**-0.5, 0.08))
            if name.endswith(("o_proj.weight", "down_proj.weight", "attn.proj.weight")):
                parameter.data *= 0.3
    embeddings: Any = model.get_input_embeddings()
    nn.init.normal_(embeddings.weight, std=0.05)
    return model


class TrainedVlm(nn.Module, ABC):
    """A model of transformers whose language model is trained on rows of questions."""

    def __init__(self, model: PreTrainedModel, compiled: bool) -> None:
        super().__init__()
        self.model: Any = model
        text: Any = TextForward(model)
        # Kept out of the module tree: it shares the model's parameters.
        self._text = (torch.compile(text) if compiled else text,)

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """Return the visual features (B, cells, width) of uint8 *images* (B, 3, H, W)."""

    def visual_tokens(self, features: Tensor) -> Tensor:
        """Return what the language model is shown of *features*."""
        return features

    def answer_loss(self, batch: Batch, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the answer loss, and whether each label is predicted (N,)."""
        hidden = self._text[0](*self.inputs(batch, features))
        return self.loss_of(batch, hidden)

    def inputs(self, batch: Batch, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return embeddings (B, T, width), positions and mask, as TextForward takes them."""
        embeddings = self.model.get_input_embeddings()(batch.tokens)
        pictured = batch.tokens == self.model.config.image_token_id
        tokens = self.visual_tokens(features).to(embeddings)
        embeddings = embeddings.masked_scatter(pictured[..., None], tokens)
        return embeddings, batch.positions, attention_mask(batch.segments)

    def loss_of(self, batch: Batch, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return what :meth:`answer_loss` does, of the last hidden states (B, T, width)."""
        asked = batch.labels != IGNORED
        logits = self.model.lm_head(hidden[asked]).float()
        labels, weights = batch.labels[asked], batch.weights[asked]
        losses = cross_entropy(logits, labels, reduction="none")
        return (losses * weights).sum() / weights.sum(), logits.argmax(-1) == labels


class TrainedNano(TrainedVlm):
    """The model, the dense head, and their losses."""

    def __init__(self, model: Qwen2_5_VLForConditionalGeneration, compiled: bool) -> None:
        super().__init__(model, compiled)
        vision_config: Any = model.config.vision_config
        self.head = nn.Linear(vision_config.out_hidden_size, CHANNELS)
        nn.init.constant_(self.head.bias, -4.0)
        vision: Any = VisionForward(model, SIDE)
        self._vision = (torch.compile(vision) if compiled else vision,)

    def features(self, images: Tensor) -> Tensor:
        """Return the visual features of merged cells."""
        features: Tensor = self._vision[0](patchify(images))
        return features

    def dense_loss(self, features: Tensor, dense: Tensor) -> Tensor:
        """Return the dense loss, in nats a picture."""
        total = binary_cross_entropy_with_logits(
            self.head(features), dense.float(), reduction="sum"
        )
        return total / len(dense)


def attention_mask(segments: Tensor) -> Tensor:
    """Return (B, 1, T, T): causal, and a question sees the prefix and itself only."""
    length = segments.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
    same = segments[:, :, None] == segments[:, None, :]
    prefix = (segments == 0)[:, None, :]
    return ((same | prefix) & causal)[:, None]
