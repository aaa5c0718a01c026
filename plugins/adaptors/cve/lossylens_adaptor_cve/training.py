"""Training: features of compressed images are drawn to the original's of uncompressed ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from cachetools import LRUCache
from lossylens.adaptor import Needs, Trained, Trainer, Training
from lossylens_toolkit.training.adaptor_training import AdaptorTraining
from lossylens_toolkit.training.pairs import Pair, Variant
from torch import Tensor
from torch.nn.functional import cosine_similarity

from lossylens_adaptor_cve.adaptor import METHOD, Student, encoder_hash
from lossylens_adaptor_cve.conditions import UNKNOWN, Labels, Vocabulary
from lossylens_adaptor_cve.lora import begin_lora
from lossylens_adaptor_cve.options import CveTrainingOptions

#: Pictures of the validation that are measured at each codec and level.
_VALIDATED = 16


class CveTrainer(Trainer):
    """Trains the conditional vision encoder of a VLM."""

    options: CveTrainingOptions

    def train(self, training: Training) -> Trained:
        """Train, or go on with what is in the folder; see :class:`~lossylens.adaptor.Trainer`."""
        loop = CveTraining(training, self.options)
        loop.run()
        return loop.export()


class CveTraining(AdaptorTraining):
    """One training."""

    memory_remedy = (
        "lower training.batch or training.variants, set training.checkpointing, or train"
        " training.lora instead of all weights"
    )

    def __init__(self, training: Training, options: CveTrainingOptions) -> None:
        training.vlm.check_trainable()
        own = {
            "condition": options.condition,
            "condition_of": options.condition_of,
            "level": options.level,
            "unlabelled": options.unlabelled,
            "loss": asdict(options.loss),
            "lora": [options.lora, options.lora_alpha],
            "resolution": options.resolution,
        }
        needs = Needs.PIXELS | Needs.BITSTREAM
        super().__init__(METHOD, training, options, own, needs=needs)
        self._own = options
        self._teacher = training.vlm.vision
        self.vocabulary = Vocabulary.of(training.points)
        self._labels = Labels(self.vocabulary, options.level, {})
        student = Student(
            self._teacher,
            self.vocabulary,
            options.condition,
            options.condition_of,
            checkpointing=options.checkpointing,
        )
        if options.lora:
            begin_lora(student.encoder, options.lora, options.lora_alpha)
        self._known: LRUCache[int, Tensor] = LRUCache(
            options.kept_megabytes << 20, getsizeof=lambda features: features.nbytes
        )
        self.prepare(
            student,
            [
                {"params": [each for each in student.encoder.parameters() if each.requires_grad]},
                {
                    "params": student.conditioner.parameters(),
                    "share": options.condition_rate,
                    "weight_decay": 0.0,
                },
            ],
        )

    @property
    def student(self) -> Student:
        """The encoder that is trained."""
        student: Student = self.accelerator.unwrap_model(self.module)
        return student

    def _pictures(self, images: Sequence[Any]) -> Sequence[Any]:
        return self._teacher.prepare(images, resolution=self._own.resolution)

    def loss(self, pairs: Sequence[Pair]) -> Mapping[str, Tensor]:
        """Return the distance of the features of all variants from the originals'."""
        layers = self._own.loss.layers if self._own.loss.layers_weight else []
        wanted = self._originals(pairs)
        with torch.no_grad():
            originals = self._pictures([pair.original for pair in pairs]) if layers else []
            states = self._teacher.hidden_states(originals, layers) if layers else {}
        shown = [(number, v) for number, pair in enumerate(pairs) for v in pair.variants]
        pictures = self._pictures([variant.image for _, variant in shown])
        numbers = [self._number(variant) for _, variant in shown]
        found = self.module(pictures, numbers, layers)
        encoded, hidden = found if layers else (found, {})
        features = [
            (one.features, wanted[number]) for (number, _), one in zip(shown, encoded, strict=True)
        ]
        terms = self._terms(features)
        if layers:
            pairs_of_states = [
                (state, states[layer][number])
                for layer in layers
                for (number, _), state in zip(shown, hidden[layer], strict=True)
            ]
            terms["layers"] = _relative_error(pairs_of_states)
        weights = {
            "mse": self._own.loss.mse,
            "cosine": self._own.loss.cosine,
            "layers": self._own.loss.layers_weight,
        }
        total = torch.stack([weights[name] * value for name, value in terms.items()]).sum()
        return {"loss": total, **terms}

    @torch.no_grad()
    def _originals(self, pairs: Sequence[Pair]) -> list[Tensor]:
        """Return the features of the originals, in float32."""
        found: dict[int, Tensor] = {}
        new: dict[int, Pair] = {}
        for pair in pairs:
            known = self._known.get(pair.number)
            if known is None:
                new[pair.number] = pair
            else:
                found[pair.number] = known
        if new:
            pictures = self._pictures([pair.original for pair in new.values()])
            for number, encoded in zip(new, self._teacher.encode(pictures), strict=True):
                found[number] = encoded.features.float().cpu()
                if found[number].nbytes <= self._known.maxsize:
                    self._known[number] = found[number]
        return [found[pair.number].to(self.accelerator.device) for pair in pairs]

    def _terms(self, features: Sequence[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        terms = {"mse": _relative_error(features)}
        if self._own.loss.cosine:
            away = [1 - cosine_similarity(a.float(), b.float(), dim=-1).mean() for a, b in features]
            terms["cosine"] = torch.stack(away).mean()
        return terms

    def _number(self, variant: Variant) -> tuple[int, float]:
        """Return codec and level, at times the unknown codec's."""
        compressed = variant.condition.bitstream is not None
        # The generator's state is among what is saved, so a resumed training draws the same.
        if compressed and torch.rand(()).item() < self._own.unlabelled:
            return self.vocabulary.codecs.index(UNKNOWN), 0.0
        return self._labels.numbers(variant.condition)

    @torch.no_grad()
    def validate(self) -> Mapping[str, Any]:
        """Return the relative error of features by codec and level, before and after."""
        student = self.student.eval()
        found: dict[str, dict[str, float]] = {}
        count = min(_VALIDATED, len(self.held_out.pictures))
        originals = [self._pictures([self.held_out.original(number)]) for number in range(count)]
        wanted = [self._teacher.encode(each)[0].features for each in originals]
        for point in [None, *self.held_out.points]:
            name = "uncompressed" if point is None else f"{point.point.label} {point.point.level}"
            errors = [
                self._errors(student, number, point, wanted[number]) for number in range(count)
            ]
            before, after = np.mean(errors, axis=0).tolist()
            found[name] = {"before": before, "after": after}
        self.module.train()
        return found

    def _errors(
        self, student: Student, number: int, point: Any, wanted: Tensor
    ) -> tuple[float, float]:
        variant = self.held_out.variant(number, point)
        shown = self._pictures([variant.image])
        [plain] = self._teacher.encode(shown)
        [tuned] = student(shown, [self._labels.numbers(variant.condition)])
        return (
            _relative_error([(plain.features, wanted)]).item(),
            _relative_error([(tuned.features, wanted)]).item(),
        )

    def told(self, training: Mapping[str, float], validation: Mapping[str, Any]) -> str:
        """Return what is said of a validation."""
        errors = ", ".join(
            f"{name} {each['before']:.3f} -> {each['after']:.3f}"
            for name, each in validation.items()
        )
        return f"loss {training['loss']:.4f}; feature error {errors}"

    def state(self) -> Mapping[str, Tensor]:
        """Return the weights of encoder and condition."""
        return self.student.state()

    def about(self) -> Mapping[str, Any]:
        """Return what the adaptor needs to know."""
        options = self._own
        about: dict[str, Any] = {
            "condition": options.condition,
            "condition_of": options.condition_of,
            "level": options.level,
            "vocabulary": self.vocabulary.described(),
            "loss": asdict(options.loss),
            "encoder": encoder_hash(self._teacher),
        }
        if options.lora:
            about["lora"] = {"rank": options.lora, "alpha": options.lora_alpha}
        if options.condition == "rope":
            about["note"] = (
                "a vector that all tokens of an image share cancels in rotary attention: this"
                " condition has no effect, and the adaptor is that without a condition"
            )
        return about


def _relative_error(pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Return the mean squared error of all pairs over the variance of what is wanted."""
    found = torch.cat([one.float().flatten() for one, _ in pairs])
    wanted = torch.cat([other.float().flatten() for _, other in pairs])
    return (found - wanted).square().mean() / wanted.var()
