"""Training of nano-clip; started again, it continues.

    python -m lossylens_nano_clip.training.train --out nano-clip

Three losses are added: a linear head says what is centred in each patch, from the hidden
states before the last layer, which are what LLaVA reads; captions and pictures of a batch
find each other (Radford et al., arXiv:2103.00020); and each picture finds the class of its
largest object among all, named in one of CLIP's templates (Yang et al., UniCL,
arXiv:2204.03610).  The head is thrown away afterwards.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lossylens_task_scenes.scene import make_scene
from lossylens_toolkit.checkpoint_file import load
from lossylens_toolkit.clip.templates import TEMPLATES
from lossylens_vlm_nano.training.data import HELD_OUT_SEED
from lossylens_vlm_nano.training.optimizer import MuonWithAdamW
from lossylens_vlm_nano.training.settings_parser import settings_parser
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, normalize
from torch.utils.data import DataLoader
from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel, PreTrainedTokenizerBase

from lossylens_nano_clip.architecture import POSITIONS, SIDE, configuration
from lossylens_nano_clip.training.data import (
    CHANNELS,
    CLASSES,
    CaptionedScenes,
    PictureBatch,
    clip_picture,
    largest_class,
    patch_targets,
    training_texts,
)
from lossylens_nano_clip.training.tokenizer import train_text_tokenizer

#: Held-out scenes that are looked at while training.
_HELD_OUT = 128
#: Nats of the dense loss that weigh as much as one of the others.
_DENSE_NATS = 20.0


@dataclass
class ClipSettings:
    """What a training is set to.

    ``decay`` is the share of all ``steps`` over which the learning rate falls; ``autocast``
    whether the forward pass is in bfloat16.
    """

    out: Path
    steps: int = 3000
    batch: int = 32
    learning_rate: float = 1.5e-3
    warmup: int = 100
    decay: float = 0.5
    weight_decay: float = 0.05
    state_every: int = 100
    autocast: bool = True
    threads: int = 1
    device: str = "cpu"
    seed: int = 0


def new_clip(tokenizer: PreTrainedTokenizerBase) -> CLIPModel:
    """Return a freshly initialised model."""
    model = CLIPModel(configuration(tokenizer))
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and "embedding" not in name:
            nn.init.normal_(parameter, std=min(parameter[0].numel() ** -0.5, 0.08))
            if name.endswith(("out_proj.weight", "fc2.weight")):
                parameter.data *= 0.3
    return model


class ClipTraining:
    """The training and its state on disk."""

    def __init__(self, settings: ClipSettings) -> None:
        self.settings = settings
        settings.out.mkdir(parents=True, exist_ok=True)
        torch.set_num_threads(settings.threads)
        torch.manual_seed(settings.seed)
        self.tokenizer = self._tokenizer()
        model: Any = new_clip(self.tokenizer)
        self.model = model.to(settings.device)
        width = self.model.config.vision_config.hidden_size
        self.head = nn.Linear(width, CHANNELS).to(settings.device)
        nn.init.constant_(self.head.bias, -4.0)
        self.trained = nn.ModuleDict({"model": self.model, "head": self.head})
        self.optimizer = MuonWithAdamW(self.trained.named_parameters(), settings.weight_decay)
        processor = CLIPImageProcessor()
        self.mean, self.std = (
            torch.tensor(each, device=settings.device).view(1, 3, 1, 1)
            for each in (processor.image_mean, processor.image_std)
        )
        self.steps = 0
        if self._state.exists():
            state = load(self._state).content
            self.trained.load_state_dict(state["trained"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.steps = state["steps"]
            print(f"resumed after {self.steps} steps", flush=True)
        scenes = [make_scene(HELD_OUT_SEED, index) for index in range(_HELD_OUT)]
        self.held_out = PictureBatch(
            torch.stack([clip_picture(scene) for scene in scenes]),
            torch.stack([patch_targets(scene) for scene in scenes]),
            torch.tensor([largest_class(scene) for scene in scenes]),
            [""] * len(scenes),
        )

    def _tokenizer(self) -> PreTrainedTokenizerBase:
        folder = self.settings.out / "tokenizer"
        if not folder.exists():
            train_text_tokenizer(training_texts(1500), POSITIONS).save_pretrained(folder)
        return AutoTokenizer.from_pretrained(folder)

    @property
    def _state(self) -> Path:
        return self.settings.out / "state.pt"

    @property
    def rate(self) -> float:
        """The learning rate: linear rise, constant, cosine fall to a hundredth."""
        settings = self.settings
        rise = min(1.0, (self.steps + 1) / settings.warmup)
        left = max(0.0, 1 - self.steps / settings.steps) / settings.decay
        fall = 1.0 if left >= 1 else max(0.01, 0.5 * (1 - math.cos(math.pi * left)))
        return settings.learning_rate * rise * fall

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return unit embeddings ``(B, width)`` and logits ``(B, patches, CHANNELS)``."""
        pixels = (images.to(self.settings.device).float() / 255 - self.mean) / self.std
        seen = self.model.vision_model(pixel_values=pixels, output_hidden_states=True)
        embedded = self.model.visual_projection(seen.pooler_output)
        return normalize(embedded, dim=-1), self.head(seen.hidden_states[-2][:, 1:])

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Return unit embeddings of texts, ``(texts, width)``."""
        tokens = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=POSITIONS, return_tensors="pt"
        ).to(self.settings.device)
        output = self.model.text_model(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
        )
        return normalize(self.model.text_projection(output.pooler_output), dim=-1)

    def losses(self, batch: PictureBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the losses of captions, of classes, and of patches in nats a picture."""
        images, logits = self.encode(batch.images)
        rng = np.random.default_rng([self.settings.seed, self.steps])
        template = TEMPLATES[int(rng.integers(len(TEMPLATES)))]
        captioned = [number for number, text in enumerate(batch.captions) if text]
        names = [template.replace("{}", name) for name in CLASSES]
        texts = self.embed([*names, *(batch.captions[number] for number in captioned)])
        scale = self.model.logit_scale.exp().clamp(max=100)
        of_classes = scale * images.float() @ texts[: len(names)].float().T
        classes = cross_entropy(of_classes, batch.classes.to(of_classes.device))
        of_captions = scale * images[captioned].float() @ texts[len(names) :].float().T
        own = torch.arange(len(captioned), device=of_captions.device)
        captions = (cross_entropy(of_captions, own) + cross_entropy(of_captions.T, own)) / 2
        dense = self._dense_loss(logits, batch.dense)
        return captions, classes, dense

    def _dense_loss(self, logits: Tensor, dense: Tensor) -> Tensor:
        wanted = dense.to(logits.device).float()
        total = binary_cross_entropy_with_logits(logits.float(), wanted, reduction="sum")
        return total / len(dense)

    def run(self) -> None:
        """Train until all steps are done."""
        last_report, running = time.monotonic(), []
        scenes = CaptionedScenes(self.settings.batch, self.steps * self.settings.batch)
        batches = iter(DataLoader(scenes, batch_size=None, num_workers=1, prefetch_factor=8))
        device = torch.device(self.settings.device).type
        while self.steps < self.settings.steps:
            with torch.autocast(device, torch.bfloat16, enabled=self.settings.autocast):
                captions, classes, dense = self.losses(next(batches))
            self.optimizer.step(captions + classes + dense / _DENSE_NATS, self.rate)
            running.append(torch.stack((captions, classes, dense)).detach())
            self.steps += 1
            if time.monotonic() - last_report > 60:
                self._report(torch.stack(running).mean(0))
                running, last_report = [], time.monotonic()
            if self.steps % self.settings.state_every == 0 or self.steps == self.settings.steps:
                self.save()
                self._evaluate()

    def _report(self, losses: Tensor) -> None:
        captions, classes, dense = losses.tolist()
        print(
            f"step {self.steps} of {self.settings.steps}  losses: captions {captions:.3f}"
            f"  classes {classes:.3f}  patches {dense:.2f}",
            flush=True,
        )

    def save(self) -> None:
        """Write the state, in place of the last one."""
        state = {
            "trained": self.trained.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "steps": self.steps,
        }
        temporary = self._state.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(self._state)

    @torch.no_grad()
    def _evaluate(self) -> None:
        images, logits = self.encode(self.held_out.images)
        names = self.embed([f"a photo of a {name}." for name in CLASSES])
        right = (images @ names.T).argmax(-1).cpu() == self.held_out.classes
        line = {
            "steps": self.steps,
            "zero-shot": right.float().mean().item(),
            "patches": self._dense_loss(logits, self.held_out.dense).item(),
        }
        print("held out:  " + "  ".join(f"{k} {v:.3f}" for k, v in line.items()), flush=True)
        with (self.settings.out / "accuracy.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")

    def write_weights(self, folder: Path) -> None:
        """Write half-precision weights, configuration, tokenizer and image processor."""
        self.model.half().save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        square = {"height": SIDE, "width": SIDE}
        CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=square).save_pretrained(folder)
        print(f"wrote {folder}", flush=True)


def main() -> None:
    """Command line: every field of :class:`ClipSettings` is an option."""
    parser = settings_parser(ClipSettings, __doc__)
    training = ClipTraining(ClipSettings(**vars(parser.parse_args())))
    training.run()
    training.write_weights(training.settings.out / "weights")


if __name__ == "__main__":
    main()
