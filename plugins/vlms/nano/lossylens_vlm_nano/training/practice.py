"""Fourth part: the language model again, on what it has learned worst.

The vision encoder stays as it is to the last bit, and with it all that was trained against
it.  What a visual token shows is known by then; where it is, no question has taught.  So
each visual token's row and column are asked of the language model's first layers as well,
by linear heads that are thrown away afterwards: a target in every token of every picture,
where questions about places give one in a hundred tokens.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import (
    AutoTokenizer,
    PreTrainedTokenizerBase,
    Qwen2_5_VLForConditionalGeneration,
)

from lossylens_vlm_nano.architecture import MERGE, PATCH, SIDE, configuration
from lossylens_vlm_nano.training.data import LESSONS, Batch, practice_questions
from lossylens_vlm_nano.training.forward import TextForward
from lossylens_vlm_nano.training.loop import Settings
from lossylens_vlm_nano.training.model import TrainedNano
from lossylens_vlm_nano.training.text import TextTraining

#: Visual tokens in a row of the picture, and in a column.
_CELLS = SIDE // (PATCH * MERGE)
#: Layers whose visual tokens are to know their place.
_PLACED = 2


class PlacedNano(TrainedNano):
    """The model with heads that read rows and columns off its first layers."""

    def __init__(self, model: Qwen2_5_VLForConditionalGeneration, compiled: bool) -> None:
        super().__init__(model, compiled)
        width = model.config.get_text_config().hidden_size
        self.places = nn.ModuleList(nn.Linear(width, 2 * _CELLS) for _ in range(_PLACED))
        # Kept out of the module tree, as in the base class.
        self._layers = (TextForward(model),)

    def losses(self, batch: Batch, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the answer loss, and the place loss in nats a number and layer."""
        hidden, left = self._layers[0].layers(*self.inputs(batch, features))
        answer, _ = self.loss_of(batch, hidden)
        pictured = batch.tokens == self.model.config.image_token_id
        cell = torch.arange(_CELLS**2, device=hidden.device)
        wanted = torch.stack((cell // _CELLS, cell % _CELLS), dim=1).repeat(len(hidden), 1)
        losses = [
            cross_entropy(
                head(states[pictured]).float().unflatten(1, (2, _CELLS)).transpose(1, 2), wanted
            )
            for head, states in zip(self.places, left, strict=False)
        ]
        return answer, torch.stack(losses).mean()


class PracticeTraining(TextTraining):
    """Trains the language model of weights that are there already.

    Args:
        settings: of this part.
        weights: folder of a checkpoint of nano.
    """

    nano: PlacedNano
    #: Weight of the place loss.
    dense_share = 0.2
    lesson_steps = (0,) * LESSONS.index(practice_questions)

    def __init__(self, settings: Settings, weights: Path) -> None:
        self.weights = weights
        super().__init__(settings)

    def new_tokenizer(self) -> PreTrainedTokenizerBase:
        """Return that of the weights."""
        return AutoTokenizer.from_pretrained(self.weights)

    def new(self) -> PlacedNano:
        """Return the model with its weights; its rotary sections are today's."""
        model = Qwen2_5_VLForConditionalGeneration.from_pretrained(
            self.weights, config=configuration(self.tokenizer), dtype=torch.float32
        )
        return PlacedNano(model, self.settings.compile)

    def begin(self) -> None:
        """Nothing is to be prepared."""

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the answer loss and the place loss."""
        features = self._scenes.features(batch, self.nano.features)
        return self.nano.losses(batch, features)

    def measures(self) -> dict[str, float]:
        """Return the place loss."""
        losses = [
            self.nano.losses(batch, self.nano.features(batch.images))[1] for batch in self.held_out
        ]
        return {"place loss": torch.stack(losses).mean().item()}
