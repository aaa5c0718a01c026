"""What all trainings share: steps, states on disk, the record, and going on where one stopped.

A training has a folder of its own.  Each state in it is whole or absent, so a training that
is killed at any moment goes on from the last one, with the batches that would have come.
"""

from __future__ import annotations

import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from accelerate import Accelerator, DataLoaderConfiguration
from lossylens.errors import ConfigError, LossylensError
from lossylens.run.progress import progress
from torch import Tensor

from lossylens_toolkit.checkpoint_file import CheckpointFileError, kind
from lossylens_toolkit.training.states import States
from lossylens_toolkit.training.training_curve import TrainingCurve

B = TypeVar("B")


class TrainingError(LossylensError):
    """A training cannot go on."""


class TrainingLoop(ABC, Generic[B]):
    """One training, in a folder of its own.

    A subclass prepares its models and optimisers with :attr:`accelerator`, calls
    :meth:`begin`, and then :meth:`run`.

    Args:
        folder: for states, record and checkpoints.
        identity: without which it would be another training; a folder holds one.
        settings: all else that should be on record.
        steps: of the whole training.
        validate_every: steps between validations.
        state_minutes: between two states on disk.
        accelerator: devices and precision.
        say: is given a line for each validation.
    """

    def __init__(
        self,
        *,
        folder: Path,
        identity: Mapping[str, Any],
        settings: Mapping[str, Any],
        steps: int,
        validate_every: int,
        state_minutes: float,
        accelerator: Accelerator,
        say: Callable[[str], object],
    ) -> None:
        self.folder, self.steps = folder, steps
        self.accelerator, self.say = accelerator, say
        self.step = 0
        self.curve = TrainingCurve(folder / "curve.jsonl")
        self.states = States(folder / "states")
        self._identity, self._settings = _as_json(identity), _as_json(settings)
        self._validate_every, self._state_minutes = validate_every, state_minutes

    @abstractmethod
    def batches(self) -> Iterable[B]:
        """Return the batches from :attr:`step` on, a function of the seed and their number."""

    @abstractmethod
    def update(self, batch: B) -> Mapping[str, Tensor]:
        """Do one step; return its terms, ``loss`` among them."""

    @abstractmethod
    def validate(self) -> Mapping[str, Any]:
        """Return measures of the validation data; called in the first process alone."""

    @abstractmethod
    def told(self, training: Mapping[str, float], validation: Mapping[str, Any]) -> str:
        """Return what is said of a validation: means of the terms since the last, and measures."""

    def begin(self) -> None:
        """Take up what the folder holds.

        Raises:
            ConfigError: it holds another training.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._check_identity()
        newest = self.states.newest()
        if newest:
            path, self.step = newest
            self._load(path)
            self.say(f"Going on at step {self.step} of {self.steps}.")
        if self.accelerator.is_main_process:
            self.curve.go_back(self.step)
        self.accelerator.wait_for_everyone()

    def _load(self, state: Path) -> None:
        """Take up a state.

        Raises:
            TrainingError: it is damaged.
        """
        remedy = f"delete {state} to begin anew"
        try:
            for path in sorted(state.iterdir()):
                kind(path)
            self.accelerator.load_state(str(state))
        except CheckpointFileError as error:
            raise TrainingError(f"{error}; {remedy}") from error
        # Of damaged bytes, torch's reader of pickles raises whatever they lead to.
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".partition("\n")[0]
            raise TrainingError(f"{state}: cannot be taken up; {remedy}: {reason}") from error

    def _check_identity(self) -> None:
        path = self.folder / "training.json"
        own = {**self._settings, **self._identity}
        if path.exists():
            try:
                there = dict(json.loads(path.read_bytes()))
            except (OSError, TypeError, ValueError) as error:
                raise TrainingError(
                    f"{path}: cannot be read as a record of a training; name another folder in out"
                ) from error
            for key in self._identity:
                if there.get(key) != own[key]:
                    raise ConfigError(
                        f"{self.folder} holds a training with {key} {there.get(key)!r}, not"
                        f" {own[key]!r}; name another folder in out"
                    )
        if self.accelerator.is_main_process:
            temporary = path.with_suffix(".tmp")
            temporary.write_text(json.dumps(own, indent=2), encoding="utf-8")
            temporary.replace(path)

    def run(self) -> None:
        """Do the steps that are left.

        Raises:
            TrainingError: the loss is no number any more.
        """
        saved, sums = time.monotonic(), _Sums()
        with progress("Training", self.steps, "steps") as shown:
            shown.advance(self.step)
            for batch in self.batches():
                sums.add(self.update(batch))
                self.step += 1
                shown.advance()
                last = self.step == self.steps
                if last or self.step % self._validate_every == 0:
                    self._record(sums)
                    sums = _Sums()
                if last or time.monotonic() - saved > 60 * self._state_minutes:
                    self._save()
                    saved = time.monotonic()

    def _save(self) -> None:
        # Each process adds its random state to what the first one writes.
        if self.accelerator.is_main_process:
            self.states.prepare()
        self.accelerator.wait_for_everyone()
        # Safetensors would leave out the empty tables that entropy models share.
        self.accelerator.save_state(str(self.states.unfinished), safe_serialization=False)
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            self.states.finish(self.step)

    def _record(self, sums: _Sums) -> None:
        means = sums.means()
        if not math.isfinite(means["loss"]):
            raise TrainingError(
                f"{self.folder}: the loss is {means['loss']} at step {self.step}; lower"
                " learning_rate or clip, and start from the last state"
            )
        if self.accelerator.is_main_process:
            found = self.validate()
            self.curve.add({"step": self.step, "training": means, "validation": dict(found)})
            self.say(f"step {self.step}: {self.told(means, found)}")
        self.accelerator.wait_for_everyone()


class _Sums:
    """Sums of the terms of steps, on their device."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._sum: Tensor | None = None
        self._count = 0

    def add(self, terms: Mapping[str, Tensor]) -> None:
        self._names = list(terms)
        values = torch.stack([terms[name] for name in self._names]).detach()
        self._sum = values if self._sum is None else self._sum + values
        self._count += 1

    def means(self) -> dict[str, float]:
        if self._sum is None:
            return {"loss": math.nan}
        return dict(zip(self._names, (self._sum / self._count).tolist(), strict=True))


def cosine(step: int, *, steps: int, warmup: int, decay: float, last: float) -> float:
    """Return the share of the learning rate at *step*: linear rise, constant, cosine fall.

    Args:
        step: counted from 0.
        steps: of the whole training.
        warmup: steps of the rise.
        decay: share of the steps, at the end, in which it falls.
        last: share that is left at the end.
    """
    rise = min(1.0, (step + 1) / (warmup + 1))
    falling = decay * steps
    left = (steps - step) / falling if falling else 1.0
    if left >= 1:
        return rise
    return rise * (last + (1 - last) * 0.5 * (1 - math.cos(math.pi * left)))


def make_accelerator(device: str, mixed_precision: str) -> Accelerator:
    """Return devices and precision of a training.

    Args:
        device: ``auto`` or ``cpu``.
        mixed_precision: ``no``, ``bf16`` or ``fp16``.

    Raises:
        ConfigError: fp16 without a GPU.
    """
    if mixed_precision == "fp16" and (device == "cpu" or not torch.cuda.is_available()):
        raise ConfigError("mixed_precision: fp16 needs a GPU; bf16 works on the CPU too")
    return Accelerator(
        cpu=device == "cpu",
        mixed_precision=mixed_precision,
        dataloader_config=DataLoaderConfiguration(split_batches=True),
    )


def _as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return *values* as a JSON file gives them back."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(values), default=str))
    return plain
