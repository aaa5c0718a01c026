"""Train the nano VLM: ``python -m lossylens_vlm_nano.training.train --out DIR``.

The budget is a number of minutes: the learning rate warms up, stays, and falls
to zero over the last part of the budget.  A state file is written every few
minutes; the same command continues from it.  At the end the weights are written
in half precision, with configuration and tokenizer, to ``DIR/weights``.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lossylens_task_scenes.scene import make_scene
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase, Qwen2_5_VLForConditionalGeneration

from lossylens_vlm_nano.architecture import SIDE, configuration
from lossylens_vlm_nano.tokenizer import train_tokenizer
from lossylens_vlm_nano.training.data import (
    HELD_OUT_SEED,
    IGNORED,
    TRAIN_SEED,
    Batch,
    RowBuilder,
    SceneBatches,
    collate,
    questions_of,
    wording,
)
from lossylens_vlm_nano.training.forward import TextForward, VisionForward, patchify
from lossylens_vlm_nano.training.initial import centre_features, start_text
from lossylens_vlm_nano.training.targets import CHANNELS

#: Steps over which the learning rate rises when the language model starts; at the
#: full rate, the first steps would wipe out what it starts from.
_TEXT_WARMUP = 120


@dataclass
class Settings:
    """What a training run is set to.

    ``minutes`` and ``state_every`` are minutes.  ``warmup``, ``decay``,
    ``dense_only`` and ``text_only`` are shares of the budget: the learning
    rate's rise and fall, the first part, in which the vision encoder alone is
    trained on the dense targets of crowded scenes, and the second, in which the
    language model alone is trained on questions; the rest trains both.
    """

    out: Path
    minutes: float = 90.0
    batch: int = 16
    length: int = 352
    learning_rate: float = 1.5e-3
    warmup: float = 0.03
    decay: float = 0.4
    weight_decay: float = 0.05
    dense_weight: float = 1.0
    dense_only: float = 0.38
    text_only: float = 0.36
    state_every: float = 5.0
    workers: int = 1
    threads: int = 2
    device: str = "cpu"
    compile: bool = True
    seed: int = 0


class NanoTrainer(nn.Module):
    """The model with its training-only head and batched forward."""

    def __init__(self, model: Qwen2_5_VLForConditionalGeneration, compiled: bool) -> None:
        super().__init__()
        self.model = model
        vision_config: Any = model.config.vision_config
        self.head = nn.Linear(vision_config.out_hidden_size, CHANNELS)
        nn.init.constant_(self.head.bias, -4.0)
        # Kept out of the module tree: they share the model's parameters.
        vision: Any = VisionForward(model, SIDE)
        text: Any = TextForward(model)
        self.forwards = (torch.compile(vision), torch.compile(text)) if compiled else (vision, text)

    def dense_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the visual features (B, cells, width) and the dense loss, in nats a picture."""
        features = self.forwards[0](patchify(batch.images))
        total = binary_cross_entropy_with_logits(
            self.head(features), batch.dense.float(), reduction="sum"
        )
        return features, total / batch.dense.shape[0]

    def losses(self, batch: Batch, see: bool = True) -> tuple[Tensor, Tensor, Tensor]:
        """Return answer loss, dense loss, and whether each label is predicted (N,).

        Without *see*, the vision encoder gets no gradient.
        """
        with torch.set_grad_enabled(see and torch.is_grad_enabled()):
            features, dense = self.dense_loss(batch)
        embeddings = self.model.get_input_embeddings()(batch.tokens)
        pictured = batch.tokens == self.model.config.image_token_id
        embeddings = embeddings.masked_scatter(pictured[..., None], features)
        hidden = self.forwards[1](embeddings, batch.positions, attention_mask(batch.segments))
        asked = batch.labels != IGNORED
        logits = self.model.lm_head(hidden[asked])
        labels, weights = batch.labels[asked], batch.weights[asked]
        answer = (cross_entropy(logits, labels, reduction="none") * weights).sum() / weights.sum()
        return answer, dense, logits.argmax(-1) == labels


def attention_mask(segments: Tensor) -> Tensor:
    """Return (B, 1, T, T): causal, and a question sees the prefix and itself only."""
    length = segments.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
    same = segments[:, :, None] == segments[:, None, :]
    prefix = (segments == 0)[:, None, :]
    return ((same | prefix) & causal)[:, None]


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


def corpus_tokenizer() -> PreTrainedTokenizerBase:
    """Train the tokenizer on the questions and answers of some training scenes."""
    texts = []
    for index in range(1500):
        scene = make_scene(TRAIN_SEED, index)
        for question in questions_of(scene, np.random.default_rng([TRAIN_SEED, index, 1])):
            texts += [wording(question), question.answer]
    return train_tokenizer(texts)


def held_out_batches(tokenizer: PreTrainedTokenizerBase, settings: Settings) -> list[Batch]:
    """Return batches of scenes whose seed is not trained on."""
    builder = RowBuilder(tokenizer, settings.length)
    batches = []
    for first in range(0, 96, settings.batch):
        rows = []
        for index in range(first, first + settings.batch):
            scene = make_scene(HELD_OUT_SEED, index)
            rng = np.random.default_rng([HELD_OUT_SEED, index])
            rows.append(builder.row(scene, questions_of(scene, rng)))
        batches.append(collate(rows))
    return batches


@torch.no_grad()
def accuracy(trainer: NanoTrainer, batches: list[Batch]) -> dict[str, float]:
    """Return, per topic, the share of answers whose every token is predicted.

    With greedy decoding this is the share of exact answers.
    """
    right: dict[str, list[bool]] = defaultdict(list)
    for batch in batches:
        _, _, hits = trainer.losses(batch)
        asked = batch.labels != IGNORED
        rows = asked.nonzero()[:, 0]
        segments = batch.segments[asked]
        for row, topics in enumerate(batch.topics):
            for number, topic in enumerate(topics, start=1):
                chosen = (rows == row) & (segments == number)
                right[topic].append(bool(hits[chosen].all()))
    return {topic: sum(hits) / len(hits) for topic, hits in sorted(right.items())}


def schedule(progress: float, settings: Settings) -> float:
    """Return the learning rate's factor at *progress*, 0 to 1, of the budget."""
    if progress < settings.warmup:
        return progress / settings.warmup
    if progress < 1 - settings.decay:
        return 1.0
    left = max(0.0, 1 - progress) / settings.decay
    return 0.5 * (1 - math.cos(math.pi * left)) if left < 1 else 1.0


class Training:
    """A training run and its state on disk."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        settings.out.mkdir(parents=True, exist_ok=True)
        torch.set_num_threads(settings.threads)
        torch.manual_seed(settings.seed)
        self.tokenizer = self._tokenizer()
        self.trainer = NanoTrainer(new_model(self.tokenizer), settings.compile)
        self.trainer.to(settings.device)
        self.optimizer = self._optimizer()
        self.seconds = 0.0
        self.scenes = 0
        self.text_steps = _TEXT_WARMUP
        self._resume()
        self.held_out = [self._place(b) for b in held_out_batches(self.tokenizer, settings)]

    def _tokenizer(self) -> PreTrainedTokenizerBase:
        from transformers import AutoTokenizer

        folder = self.settings.out / "tokenizer"
        if not folder.exists():
            corpus_tokenizer().save_pretrained(folder)
        return AutoTokenizer.from_pretrained(folder)

    def _optimizer(self) -> torch.optim.Optimizer:
        matrices = [p for p in self.trainer.parameters() if p.ndim > 1]
        vectors = [p for p in self.trainer.parameters() if p.ndim <= 1]
        groups = [
            {"params": matrices, "weight_decay": self.settings.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.settings.learning_rate, betas=(0.9, 0.98))

    def _place(self, batch: Batch) -> Batch:
        moved: dict[str, Any] = {
            name: value.to(self.settings.device) if isinstance(value, Tensor) else value
            for name, value in vars(batch).items()
        }
        return Batch(**moved)

    @property
    def _state(self) -> Path:
        return self.settings.out / "state.pt"

    def _resume(self) -> None:
        if not self._state.exists():
            return
        state = torch.load(self._state, weights_only=True, map_location=self.settings.device)
        self.trainer.load_state_dict(state["trainer"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.seconds, self.scenes = state["seconds"], state["scenes"]
        print(f"resumed after {self.seconds / 60:.1f} minutes and {self.scenes} scenes", flush=True)

    def _save(self) -> None:
        state = {
            "trainer": self.trainer.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "seconds": self.seconds,
            "scenes": self.scenes,
        }
        temporary = self._state.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(self._state)

    def _batches(self) -> Iterator[Batch]:
        settings = self.settings
        while True:
            asked = self.answering
            scenes = SceneBatches(
                self.tokenizer, settings.batch, settings.length, self.scenes, asked
            )
            for batch in DataLoader(
                scenes, batch_size=None, num_workers=settings.workers, prefetch_factor=8
            ):
                yield batch
                if self.answering != asked:
                    self._start_text()
                    break

    def _start_text(self) -> None:
        """Begin with the language model: the vision encoder sees by now."""
        model = self.trainer.model
        with torch.no_grad():
            features = self.trainer.dense_loss(self.held_out[0])[0]
        centre_features(model, self.trainer.head, features)
        start_text(model, self.tokenizer, self.trainer.head)
        for parameter in model.model.language_model.parameters():
            self.optimizer.state.pop(parameter, None)
        self.text_steps = 0

    def run(self) -> None:
        """Train until the budget is spent, then write the weights."""
        last_report = time.monotonic()
        last_save = self.seconds
        running: list[Tensor] = []
        for batch in self._batches():
            started = time.monotonic()
            losses = self._step(self._place(batch))
            running.append(losses)
            self.scenes += self.settings.batch
            self.seconds += time.monotonic() - started
            if time.monotonic() - last_report > 60:
                self._report(torch.stack(running).mean(0))
                running, last_report = [], time.monotonic()
            done = self.progress >= 1
            if done or self.seconds - last_save > self.settings.state_every * 60:
                self._save()
                if self.answering:
                    self._evaluate()
                last_save = self.seconds
            if done:
                break
        self.write_weights()

    @property
    def progress(self) -> float:
        """Share of the budget that is spent."""
        return self.seconds / (self.settings.minutes * 60)

    @property
    def answering(self) -> bool:
        """Whether the first part, on dense targets alone, is over."""
        return self.progress >= self.settings.dense_only

    def _step(self, batch: Batch) -> Tensor:
        rate = self.settings.learning_rate * schedule(self.progress, self.settings)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * min(1.0, (self.text_steps + 1) / _TEXT_WARMUP)
        if batch.topics[0]:
            self.text_steps += 1
            see = self.progress >= self.settings.dense_only + self.settings.text_only
            answer, dense, _ = self.trainer.losses(batch, see)
        else:
            dense = self.trainer.dense_loss(batch)[1]
            answer = torch.zeros_like(dense)
        loss = answer + self.settings.dense_weight * dense / 50
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.trainer.parameters(), 1.0)
        self.optimizer.step()
        return torch.stack((answer.detach(), dense.detach()))

    def _report(self, losses: Tensor) -> None:
        answer, dense = losses.tolist()
        rate = self.scenes / max(self.seconds, 1e-9)
        print(
            f"{self.seconds / 60:6.1f}/{self.settings.minutes:.0f} min  {self.scenes} scenes"
            f"  {rate:.1f}/s  answer loss {answer:.4f}  dense loss {dense:.2f}",
            flush=True,
        )

    def _evaluate(self) -> None:
        topics = accuracy(self.trainer, self.held_out)
        print("  ".join(f"{topic} {share:.3f}" for topic, share in topics.items()), flush=True)
        line = {"minutes": self.seconds / 60, "scenes": self.scenes, "accuracy": topics}
        with (self.settings.out / "accuracy.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")

    def write_weights(self) -> None:
        """Write half-precision weights, configuration, tokenizer and image processor."""
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import (
            Qwen2VLImageProcessorPil,
        )

        folder = self.settings.out / "weights"
        self.trainer.model.half().save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        area = SIDE * SIDE
        Qwen2VLImageProcessorPil(min_pixels=area, max_pixels=area).save_pretrained(folder)
        print(f"wrote {folder}", flush=True)


def main() -> None:
    """Command line: every field of :class:`Settings` is an option."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    for name, kind in Settings.__annotations__.items():
        if name == "out":
            continue
        default = getattr(Settings, name)
        option = f"--{name.replace('_', '-')}"
        if kind == "bool":
            parser.add_argument(option, action=argparse.BooleanOptionalAction, default=default)
        else:
            parser.add_argument(option, type=type(default), default=default)
    Training(Settings(**vars(parser.parse_args()))).run()


if __name__ == "__main__":
    main()
