"""What the parts of training share: the loop, its schedule, and its state on disk."""

from __future__ import annotations

import json
import math
import signal
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from lossylens_task_scenes.scene import make_scene
from lossylens_task_scenes.vocabulary import COLORS, PLURALS, SHAPES, SIZES, TEXTURES
from lossylens_toolkit.checkpoint_file import load
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from lossylens_vlm_nano.prompt import prompt_suffix
from lossylens_vlm_nano.tokenizer import train_tokenizer
from lossylens_vlm_nano.training.data import (
    HELD_OUT_SEED,
    IGNORED,
    TRAIN_SEED,
    Batch,
    RowBuilder,
    collate,
    questions_of,
    wording,
)
from lossylens_vlm_nano.training.model import TrainedNano, TrainedVlm, new_model
from lossylens_vlm_nano.training.optimizer import MuonWithAdamW

#: What is trained.
Trained = TypeVar("Trained", bound=TrainedVlm)


@dataclass
class Settings:
    """What a part of training is set to.

    ``minutes`` and ``state_every`` are minutes; ``steps``, where it is not 0, is the budget
    instead of ``minutes``; ``warmup`` is in steps; ``decay`` is the share of the budget over
    which the learning rate falls; ``first`` is the number of the first scene, by which a part
    avoids the scenes of another; ``autocast`` whether the forward pass is in bfloat16, which
    pays on a CPU that has instructions for it.
    """

    out: Path
    minutes: float = 60.0
    steps: int = 0
    batch: int = 16
    length: int = 352
    learning_rate: float = 1.5e-3
    warmup: int = 100
    decay: float = 0.5
    weight_decay: float = 0.05
    state_every: float = 5.0
    threads: int = 2
    device: str = "cpu"
    compile: bool = True
    seed: int = 0
    first: int = 0
    autocast: bool = False


class Training(ABC, Generic[Trained]):
    """One part of training and its state on disk; started again, it continues.

    Args:
        settings: of this part.
    """

    #: Whether the language model is trained, so that answers are worth measuring.
    answers = True

    #: Weight of the dense loss: a hundred nats are a crowded picture of which little is known.
    dense_share = 1 / 50

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        settings.out.mkdir(parents=True, exist_ok=True)
        torch.set_num_threads(settings.threads)
        torch.manual_seed(settings.seed)
        self.tokenizer = self._tokenizer()
        self.nano = self.new()
        self.nano.to(settings.device)
        self.held_out = [self.place(batch) for batch in self._held_out_batches()]
        self.seconds = 0.0
        self.steps = 0
        resumed = self._read(self._state) if self._state.exists() else None
        if resumed is None:
            self.begin()
        self.choose_parameters()
        self.optimizer = MuonWithAdamW(self.nano.named_parameters(), settings.weight_decay)
        if resumed is not None:
            self.nano.load_state_dict(resumed["nano"])
            self.optimizer.load_state_dict(resumed["optimizer"])
            self.seconds, self.steps = resumed["seconds"], resumed["steps"]
            print(f"resumed after {self.seconds / 60:.1f} minutes, {self.steps} steps", flush=True)

    @abstractmethod
    def new_tokenizer(self) -> PreTrainedTokenizerBase:
        """Return the tokenizer of a training that is not resumed."""

    @abstractmethod
    def new(self) -> Trained:
        """Return a freshly initialised model."""

    @abstractmethod
    def builder(self, length: int) -> RowBuilder:
        """Return what makes rows of *length* tokens."""

    @abstractmethod
    def batches(self) -> Iterator[Batch]:
        """Yield training batches for ever, from step number ``steps`` on."""

    @abstractmethod
    def losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return answer loss and dense loss; their weighted sum is minimised."""

    def begin(self) -> None:
        """Prepare the weights of a part that is not resumed."""

    def choose_parameters(self) -> None:
        """Freeze what this part does not train."""

    def place(self, batch: Batch) -> Batch:
        """Return *batch* on the training device."""
        moved: dict[str, Any] = {
            name: value.to(self.settings.device) if isinstance(value, Tensor) else value
            for name, value in vars(batch).items()
        }
        return Batch(**moved)

    def _tokenizer(self) -> PreTrainedTokenizerBase:
        folder = self.settings.out / "tokenizer"
        if not folder.exists():
            self.new_tokenizer().save_pretrained(folder)
        return AutoTokenizer.from_pretrained(folder)

    @property
    def _state(self) -> Path:
        return self.settings.out / "state.pt"

    def _read(self, path: Path) -> dict[str, Any]:
        state: dict[str, Any] = load(path).content
        return state

    def save(self) -> None:
        """Write the state, in place of the last one."""
        state = {
            "nano": self.nano.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "seconds": self.seconds,
            "steps": self.steps,
        }
        temporary = self._state.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(self._state)

    @property
    def progress(self) -> float:
        """Share of the budget that is spent."""
        if self.settings.steps:
            return self.steps / self.settings.steps
        return self.seconds / (self.settings.minutes * 60)

    @property
    def rate(self) -> float:
        """The learning rate: linear rise, constant, cosine fall to a hundredth."""
        settings = self.settings
        rise = min(1.0, (self.steps + 1) / settings.warmup)
        left = max(0.0, 1 - self.progress) / settings.decay
        fall = 1.0 if left >= 1 else max(0.01, 0.5 * (1 - math.cos(math.pi * left)))
        return settings.learning_rate * rise * fall

    def run(self) -> bool:
        """Train until the budget is spent, and return whether it is.

        On SIGTERM the state is written, and training ends with the step.
        """
        stopped: list[int] = []
        before = signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
        try:
            return self._run(stopped)
        finally:
            signal.signal(signal.SIGTERM, before)

    def _run(self, stopped: Sequence[int]) -> bool:
        last_report = time.monotonic()
        last_save = self.seconds
        running: list[Tensor] = []
        device = torch.device(self.settings.device).type
        for batch in self.batches():
            started = time.monotonic()
            with torch.autocast(device, torch.bfloat16, enabled=self.settings.autocast):
                answer, dense = self.losses(self.place(batch))
            self.optimizer.step(answer + self.dense_share * dense, self.rate)
            running.append(torch.stack((answer.detach(), dense.detach())))
            self.steps += 1
            self.seconds += time.monotonic() - started
            if time.monotonic() - last_report > 60:
                self._report(torch.stack(running).mean(0))
                running, last_report = [], time.monotonic()
            if stopped:
                self.save()
                print(f"stopped after {self.steps} steps; start again to go on", flush=True)
                return False
            done = self.progress >= 1
            if done or self.seconds - last_save > self.settings.state_every * 60:
                self.save()
                self._evaluate()
                last_save = self.seconds
            if done:
                return True
        return False

    def _report(self, losses: Tensor) -> None:
        answer, dense = losses.tolist()
        print(
            f"{self.seconds / 60:6.1f}/{self.settings.minutes:.0f} min  step {self.steps}"
            f"  answer loss {answer:.4f}  dense loss {dense:.2f}",
            flush=True,
        )

    def _held_out_batches(self) -> list[Batch]:
        """Return batches of scenes whose seed is not trained on."""
        builder = self.builder(self.settings.length)
        batches = []
        for first in range(0, 96, self.settings.batch):
            rows = []
            for index in range(first, first + self.settings.batch):
                scene = make_scene(HELD_OUT_SEED, index)
                rng = np.random.default_rng([HELD_OUT_SEED, index])
                rows.append(builder.row(scene, questions_of(scene, rng)))
            batches.append(collate(rows))
        return batches

    def measures(self) -> dict[str, float]:
        """Return what is measured on held-out scenes besides answers."""
        return {}

    @torch.no_grad()
    def _evaluate(self) -> None:
        line: dict[str, Any] = {"minutes": self.seconds / 60, "steps": self.steps}
        line |= self.measures()
        if self.answers:
            line |= accuracy(self.nano, self.held_out)
        print("held out:  " + "  ".join(f"{k} {v:.3f}" for k, v in line.items()), flush=True)
        with (self.settings.out / "accuracy.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")


class NanoTraining(Training[TrainedNano]):
    """One part of the training of nano.

    Args:
        settings: of this part.
        vision: state file of an earlier part, whose vision encoder and dense head are taken.
        text: the same, whose language model and tokenizer are taken.
    """

    def __init__(
        self, settings: Settings, vision: Path | None = None, text: Path | None = None
    ) -> None:
        self.vision, self.text = vision, text
        super().__init__(settings)

    def new_tokenizer(self) -> PreTrainedTokenizerBase:
        """Return that of the part whose language model is taken, or train one."""
        if self.text is None:
            return corpus_tokenizer()
        return AutoTokenizer.from_pretrained(self.text.parent / "tokenizer")

    def new(self) -> TrainedNano:
        """Return a freshly initialised model."""
        return TrainedNano(new_model(self.tokenizer), self.settings.compile)

    def begin(self) -> None:
        """Take over what earlier parts have learned."""
        for path, seeing in ((self.vision, True), (self.text, False)):
            if path is not None:
                _take_over(self.nano, self._read(path), seeing)

    def builder(self, length: int) -> RowBuilder:
        """Return what makes rows of *length* tokens."""
        return RowBuilder(self.tokenizer, length)

    def measures(self) -> dict[str, float]:
        """Return the dense loss."""
        losses = [
            self.nano.dense_loss(self.nano.features(batch.images), batch.dense)
            for batch in self.held_out
        ]
        return {"dense loss": torch.stack(losses).mean().item()}


def _take_over(nano: TrainedNano, state: dict[str, Any], seeing: bool) -> None:
    """Load the vision encoder and the dense head of *state*, or all but these."""
    wanted = {name for name in nano.state_dict() if sees(name) == seeing}
    weights = {name: weight for name, weight in state["nano"].items() if name in wanted}
    if weights.keys() != wanted:
        raise ValueError(f"state lacks {sorted(wanted - weights.keys())[0]}")
    nano.load_state_dict(weights, strict=False)


def sees(name: str) -> bool:
    """Whether the parameter called *name* belongs to the vision encoder or the dense head."""
    return ".visual." in name or name.startswith("head.")


def corpus_tokenizer() -> PreTrainedTokenizerBase:
    """Train the tokenizer on the prompts and answers of some training scenes.

    Words of the scenes are added on their own, so that an answer is the same token
    whether or not a space precedes it.
    """
    words = [*SHAPES, *PLURALS.values(), *COLORS, *TEXTURES, *SIZES]
    texts = [f"{word} {word}" for word in words] * 100
    for index in range(1500):
        scene = make_scene(TRAIN_SEED, index)
        for question in questions_of(scene, np.random.default_rng([TRAIN_SEED, index, 1])):
            texts += [prompt_suffix(wording(question)), question.answer]
    return train_tokenizer(texts)


@torch.no_grad()
def accuracy(nano: TrainedVlm, batches: list[Batch]) -> dict[str, float]:
    """Return, per topic, the share of answers whose every token is predicted.

    With greedy decoding this is the share of exact answers.
    """
    right: dict[str, list[bool]] = defaultdict(list)
    for batch in batches:
        _, hits = nano.answer_loss(batch, nano.features(batch.images))
        asked = batch.labels != IGNORED
        rows = asked.nonzero()[:, 0]
        segments = batch.segments[asked]
        for row, topics in enumerate(batch.topics):
            for number, topic in enumerate(topics, start=1):
                chosen = (rows == row) & (segments == number)
                right[topic].append(bool(hits[chosen].all()))
    return {topic: sum(hits) / len(hits) for topic, hits in sorted(right.items())}
