"""Discriminators for the adversarial stage of generative codecs, and their losses.

Each judges pictures beside the quantised latents, which it gets as a context.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from lossylens_toolkit.neural_codec.high_fidelity import ReflectedConv2d

_SLOPE = 0.2
#: Side of the cells that are labelled.
CELL = 8
#: Numbers that stand for the content of a cell.
_PROJECTED = 8
#: Variance, as a share of the largest, below which components are left weak: they are noise.
_WEAKEST = 0.01
_ROUNDS = 10


class Discriminator(nn.Module):
    """Tells pictures from what a generator makes of their latents."""

    @abstractmethod
    def generator_loss(self, fake: Tensor, latents: Tensor, original: Tensor) -> Tensor:
        """Return the loss of the generator.

        Args:
            fake: its pictures, ``(B, 3, H, W)``, about 0..1.
            latents: quantised, without gradient, at a sixteenth of the size.
            original: what they are to be, for labels.
        """

    @abstractmethod
    def loss(self, real: Tensor, fake: Tensor, latents: Tensor) -> Tensor:
        """Return the discriminator's own loss, for pictures of the same latents."""

    def learn(self, x: Tensor) -> None:
        """Take from training pictures what is not learnt by gradients; nothing by default."""


class PatchDiscriminator(Discriminator):
    """HiFiC's (Mentzer et al., 2020): patches are real or not; non-saturating loss.

    Args:
        latents: channels of y.
        width: channels of the first layer; 64 in the paper.
    """

    def __init__(self, latents: int, width: int = 64) -> None:
        super().__init__()
        context = 12
        self.context_conv = ReflectedConv2d(latents, context, 3)
        widths = [3 + context, *(width * factor for factor in (1, 2, 4, 8))]
        self.convs = nn.ModuleList(
            spectral_norm(ReflectedConv2d(before, after, 4, 2, (1, 1, 1, 1)))
            for before, after in itertools.pairwise(widths)
        )
        self.conv_out = nn.Conv2d(widths[-1], 1, 1)

    def forward(self, x: Tensor, latents: Tensor) -> Tensor:
        """Return the logit of each patch being real, ``(B, 1, H/16, W/16)``."""
        context = functional.leaky_relu(self.context_conv(latents), _SLOPE)
        x = torch.cat([x, functional.interpolate(context, x.shape[-2:])], 1)
        for conv in self.convs:
            x = functional.leaky_relu(conv(x), _SLOPE)
        return self.conv_out(x)

    def generator_loss(self, fake: Tensor, latents: Tensor, original: Tensor) -> Tensor:
        """See the base."""
        return functional.softplus(-self(fake, latents)).mean()

    def loss(self, real: Tensor, fake: Tensor, latents: Tensor) -> Tensor:
        """See the base."""
        shown, made = self(real, latents), self(fake, latents)
        return functional.softplus(-shown).mean() + functional.softplus(made).mean()


class UNetDiscriminator(Discriminator):
    """MS-ILLM's (Muckley et al., 2023): OASIS's U-Net names the label of each cell, or "fake".

    Schönfeld et al., "You Only Need Adversarial Supervision for Semantic Image Synthesis",
    ICLR 2021, cut where a position is a cell of 8x8 pixels.  Labels come from a
    :class:`Codebook` of the training pictures; those of the paper are a VQ-VAE's.

    Args:
        latents: channels of y.
        width: channels of the first two layers; 128 in the paper.
        labels: number of labels; 1024 in the paper.
    """

    def __init__(self, latents: int, width: int = 128, labels: int = 1024) -> None:
        super().__init__()
        context = 16
        self.context_conv = ReflectedConv2d(latents, context, 3)
        down = [width * factor for factor in (1, 1, 2, 2, 4, 4)]
        self.down = nn.ModuleList(
            _Residual(before, after)
            for before, after in zip([3 + context, *down], down, strict=False)
        )
        # Back to an eighth, with what the way down had at each size.
        self.up = nn.ModuleList(
            [
                _Residual(down[5] + down[4], down[4]),
                _Residual(down[4] + down[3], down[3]),
                _Residual(down[3] + down[2], down[2]),
            ]
        )
        self.head = nn.Conv2d(down[2], labels + 1, 1)
        self.codebook = Codebook(labels)

    def forward(self, x: Tensor, latents: Tensor) -> Tensor:
        """Return logits of each cell, ``(B, labels + 1, H/8, W/8)``; the first is "fake".

        Args:
            x: pictures, whose sides are multiples of 64.
            latents: quantised.
        """
        context = functional.leaky_relu(self.context_conv(latents), _SLOPE)
        x = torch.cat([x, functional.interpolate(context, x.shape[-2:])], 1)
        before = []
        for block in self.down:
            x = functional.avg_pool2d(block(x), 2)
            before.append(x)
        before.pop()
        for block in self.up:
            x = functional.interpolate(x, scale_factor=2)
            x = block(torch.cat([x, before.pop()], 1))
        return self.head(functional.leaky_relu(x, _SLOPE))

    def generator_loss(self, fake: Tensor, latents: Tensor, original: Tensor) -> Tensor:
        """See the base."""
        return functional.cross_entropy(self(fake, latents), self.codebook(original) + 1)

    def loss(self, real: Tensor, fake: Tensor, latents: Tensor) -> Tensor:
        """See the base."""
        shown, made = self(real, latents), self(fake, latents)
        none = torch.zeros_like(made[:, 0], dtype=torch.long)
        told = functional.cross_entropy(shown, self.codebook(real) + 1)
        return 0.5 * (told + functional.cross_entropy(made, none))

    def learn(self, x: Tensor) -> None:
        """See the base: the codebook."""
        self.codebook.learn(x)


class _Residual(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, padding=1)
        self.second = nn.Conv2d(after, after, 3, padding=1)
        self.skip = nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(functional.leaky_relu(x, _SLOPE))
        return self.skip(x) + self.second(functional.leaky_relu(hidden, _SLOPE))


class Codebook(nn.Module):
    """Labels of cells of 8x8 pixels: the nearest of the means of training cells.

    Cells are compared by their eight strongest principal components, brought to about
    unit variance; the means are found by Lloyd's algorithm.

    Args:
        labels: how many.
    """

    mean: Tensor
    projection: Tensor
    centres: Tensor

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3 * CELL**2))
        self.register_buffer("projection", torch.zeros(3 * CELL**2, _PROJECTED))
        self.register_buffer("centres", torch.zeros(labels, _PROJECTED))

    @torch.no_grad()
    def learn(self, x: Tensor) -> None:
        """Take the means from pictures ``(B, 3, H, W)`` with at least a cell for each label."""
        cells = self._cells(x)
        self.mean.copy_(cells.mean(0))
        strengths, vectors = torch.linalg.eigh(torch.cov(cells.T.double()))
        least = strengths[-1] * _WEAKEST + 1e-8
        whitened = vectors[:, -_PROJECTED:] / strengths[-_PROJECTED:].clamp_min(least).sqrt()
        self.projection.copy_(whitened)
        points = (cells - self.mean) @ self.projection
        count = len(self.centres)
        self.centres.copy_(points[torch.randperm(len(points))[:count]])
        for _ in range(_ROUNDS):
            nearest = torch.cdist(points, self.centres).argmin(1)
            sums = torch.zeros_like(self.centres).index_add_(0, nearest, points)
            sizes = torch.bincount(nearest, minlength=count)[:, None]
            self.centres.copy_(torch.where(sizes > 0, sums / sizes.clamp_min(1), self.centres))

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Return the label of each cell, ``(B, H/8, W/8)``."""
        points = (self._cells(x) - self.mean) @ self.projection
        nearest = torch.cdist(points, self.centres).argmin(1)
        return nearest.reshape(x.shape[0], x.shape[2] // CELL, x.shape[3] // CELL)

    @staticmethod
    def _cells(x: Tensor) -> Tensor:
        return functional.unfold(x, CELL, stride=CELL).transpose(1, 2).flatten(0, 1)
