"""Training of the toys, on the loop that all adaptors share."""

from __future__ import annotations

import os
import time

import torch
from lossylens.adaptor import Trainer
from lossylens_toolkit.training.adaptor_options import AdaptorTrainingOptions
from lossylens_toolkit.training.adaptor_training import AdaptorTraining

from lossylens_toys.adaptors import Condition, Entry, States


class _Training(AdaptorTraining):
    def __init__(self, method, training, toy):
        options = AdaptorTrainingOptions(
            steps=toy.steps,
            batch=toy.batch,
            workers=toy.workers,
            warmup=1,
            clean=0.0,
            learning_rate=1e-3,
            validate_every=3,
            state_minutes=0,
        )
        name = f"toy-{method.__name__.lower()}"
        super().__init__(name, training, options, {}, needs=method.needs)
        self.vision = training.vlm.vision
        module = method.module(self.vision)
        self.prepare(module, [{"params": [p for p in module.parameters() if p.requires_grad]}])

    def loss(self, pairs):
        time.sleep(float(os.environ.get("TOY_DELAY", "0")))
        with torch.no_grad():
            wanted = self.vision.encode(self.vision.prepare([pair.original for pair in pairs]))
        shown = [pair.variants[0] for pair in pairs]
        pictures = [
            None if each.image is None else self.vision.prepare([each.image])[0] for each in shown
        ]
        found = self.module(pictures, [each.condition for each in shown])
        errors = [
            (one.features.mean(0) - other.features.mean(0)).square().mean()
            for one, other in zip(found, wanted, strict=True)
        ]
        return {"loss": torch.stack(errors).mean()}

    def validate(self):
        number = len(self.held_out.pictures)
        return {"pictures": number}

    def told(self, training, validation):
        return f"loss {training['loss']:.4f}"

    def state(self):
        return self.accelerator.unwrap_model(self.module).state_dict()


class _Trainer(Trainer):
    method = None

    def train(self, training):
        loop = _Training(self.method, training, self.options)
        loop.run()
        return loop.export()


class ConditionTrainer(_Trainer):
    method = Condition


class EntryTrainer(_Trainer):
    method = Entry


class StatesTrainer(_Trainer):
    method = States
