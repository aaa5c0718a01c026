"""Fourth part: the language model again, on what it has learned worst.

The vision encoder stays as it is to the last bit, and with it all that was trained against
it.  What a visual token shows is known by then; where it is, no question has taught.  So
each visual token's row and column are asked of the language model's first layers as well,
by linear heads that are thrown away afterwards: a target in every token of every picture,
where questions about places give one in a hundred tokens.  And the tokens are to say it in
the words of the answers (``top``, ``left``): as with colours, what attention copies from a
cell is then an answer already (see :mod:`initial`).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    normalize,
    rms_norm,
)
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
#: What places are called in answers, in the order of :func:`named_places`.
PLACE_WORDS = ("top", "bottom", "left", "right", "center")
#: Layers whose visual tokens are to know their place.
_PLACED = 2


class PlacedNano(TrainedNano):
    """The model with heads that read rows and columns off its first layers.

    Args:
        model: with its weights.
        compiled: whether its forward passes are compiled.
        words: token ids of the forms of each of :data:`PLACE_WORDS`, (5, forms).
    """

    words: Tensor
    named: Tensor

    def __init__(
        self, model: Qwen2_5_VLForConditionalGeneration, compiled: bool, words: Tensor
    ) -> None:
        super().__init__(model, compiled)
        width = model.config.get_text_config().hidden_size
        self.register_buffer("words", words, persistent=False)
        self.register_buffer("named", named_places(), persistent=False)
        self.sharpness = nn.Parameter(torch.ones(()))
        self.rarity = nn.Parameter(torch.full((len(PLACE_WORDS),), -1.0))
        self.places = nn.ModuleList(nn.Linear(width, 2 * _CELLS) for _ in range(_PLACED))
        # Kept out of the module tree, as in the base class.
        self._layers = (TextForward(model),)

    def losses(self, batch: Batch, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the answer loss, and the place loss in nats a visual token and layer."""
        hidden, left = self._layers[0].layers(*self.inputs(batch, features))
        answer, _ = self.loss_of(batch, hidden)
        pictured = batch.tokens == self.model.config.image_token_id
        cell = torch.arange(_CELLS**2, device=hidden.device)
        wanted = torch.stack((cell // _CELLS, cell % _CELLS), dim=1).repeat(len(hidden), 1)
        directions = self._directions()
        named = self.named.repeat(len(hidden), 1)
        losses = []
        for head, states in zip(self.places, left, strict=False):
            cells = states[pictured].float()
            numbers = head(cells).float().unflatten(1, (2, _CELLS)).transpose(1, 2)
            losses.append(2 * cross_entropy(numbers, wanted))
            told = self.sharpness * (rms_norm(cells, cells.shape[1:]) @ directions.T) + self.rarity
            losses.append(len(named.T) * binary_cross_entropy_with_logits(told, named))
        return answer, torch.stack(losses).sum() / len(self.places)

    def _directions(self) -> Tensor:
        """Return the direction of each place word, (5, width), of unit length."""
        forms = self.model.get_input_embeddings()(self.words).detach().float().mean(1)
        return normalize(forms - forms.mean(0), dim=1)


def named_places() -> Tensor:
    """Return which of :data:`PLACE_WORDS` a question would be answered with, (cells, 5).

    Questions tell thirds, and ask about nothing that is near their borders.
    """
    cell = (torch.arange(_CELLS) + 0.5) / _CELLS
    first, last = cell < 3 / 8, cell > 5 / 8
    middle = ~first & ~last
    row, column = torch.meshgrid(torch.arange(_CELLS), torch.arange(_CELLS), indexing="ij")
    told = (first[row], last[row], first[column], last[column], middle[row] & middle[column])
    return torch.stack(told, dim=-1).flatten(0, 1).float()


class PracticeTraining(TextTraining):
    """Trains the language model of weights that are there already.

    Args:
        settings: of this part.
        weights: folder of a checkpoint of nano.
    """

    nano: PlacedNano
    #: Weight of the place loss.
    dense_share = 0.1
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
        forms = [[word, f" {word}"] for word in PLACE_WORDS]
        encode = self.tokenizer.encode
        words = [[encode(each, add_special_tokens=False)[0] for each in form] for form in forms]
        return PlacedNano(model, self.settings.compile, torch.tensor(words))

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
