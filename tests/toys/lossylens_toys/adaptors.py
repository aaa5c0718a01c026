"""Three small adaptors, one of each shape that methods of the field have."""

from __future__ import annotations

import hashlib
import zlib

import torch
from lossylens.adaptor import Adaptor, Needs
from lossylens.errors import RequirementError
from lossylens_toolkit.neural_codec.checkpoints import read_checkpoint
from lossylens_toolkit.training.adaptor_training import check_header
from lossylens_toolkit.transformers_vlm.vision_inputs import Layout
from torch import nn
from torch.nn.functional import interpolate


def place(point):
    """Return a number for codec and level."""
    return zlib.crc32(f"{point.codec} {point.level}".encode()) % 16


class ConditionModule(nn.Module):
    """Adds a vector of codec and level to every token; the encoder's weights are its own."""

    def __init__(self, vision):
        super().__init__()
        self.access = vision.clone()
        self.encoder = self.access.trainable
        self.table = nn.Embedding(16, vision.width)
        nn.init.zeros_(self.table.weight)

    def forward(self, pictures, conditions):
        numbers = torch.tensor([place(each.point) for each in conditions])
        return self.encoder(pictures, embedding=self.table(numbers))


class EntryModule(nn.Module):
    """Makes hidden states of the second layer from latents."""

    def __init__(self, vision, channels=32):
        super().__init__()
        self.vision = [vision]
        self.linear = nn.Linear(channels, vision.width)

    def forward(self, pictures, conditions):
        assert all(picture is None for picture in pictures)
        states, layouts = [], []
        for condition in conditions:
            values = torch.as_tensor(condition.latents.values)
            _, height, width = values.shape
            rows, columns = height - height % 2, width - width % 2
            tokens = values[:, :rows, :columns].flatten(1).T
            states.append(self.linear(tokens)[None])
            layouts.append(Layout(1, rows, columns))
        return self.vision[0].enter(1, states, layouts)


class StatesModule(nn.Module):
    """Adds states made of latents to the tokens that they lie under."""

    def __init__(self, vision, channels=32):
        super().__init__()
        self.vision = [vision]
        self.linear = nn.Linear(channels, vision.width)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, pictures, conditions):
        states = []
        for picture, condition in zip(pictures, conditions, strict=True):
            values = torch.as_tensor(condition.latents.values)[None]
            layout = picture.layout
            grid = interpolate(values, (layout.rows, layout.columns), mode="bilinear")
            states.append(self.linear(grid[0].flatten(1).T)[None])
        return self.vision[0].encode(pictures, states=states)


class _Toy(Adaptor):
    module = nn.Module

    def _path(self, label):
        return self.options.checkpoints.get(label, self.options.checkpoint)

    def provenance(self):
        paths = {**self.options.checkpoints, "any": self.options.checkpoint}
        found = {name: path for name, path in paths.items() if path}
        for path in found.values():
            if not path.exists():
                raise RequirementError(f"no checkpoint {path}; train it")
        return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in found.items()}

    def fits(self, vlm, point):
        path = self._path(vlm.label)
        if path is None:
            return f"no checkpoint for vlm {vlm.label}"
        self._used = path
        about = read_checkpoint(path).about
        other = check_header(about, f"toy-{type(self).__name__.lower()}", vlm, path)
        if other or (point.codec == "uncompressed" and Needs.LATENTS not in self.needs):
            return other
        known = {(each["codec"], each["level"]) for each in about["points"]}
        here = (point.codec, point.level)
        return "" if here in known else f"not trained for {point.label} {point.level}"

    def encoder(self, vision):
        module = self.module(vision)
        paths = [self.options.checkpoint, *self.options.checkpoints.values()]
        [path] = [each for each in paths if each]
        module.load_state_dict(dict(read_checkpoint(path).state))
        return torch.no_grad()(module.eval())


class Condition(_Toy):
    module = ConditionModule


class Entry(_Toy):
    needs = Needs.LATENTS
    module = EntryModule


class States(_Toy):
    needs = Needs.PIXELS | Needs.LATENTS
    module = StatesModule
