"""The spaced ancestral sampler, and the noise of a picture.

Ho et al., "Denoising Diffusion Probabilistic Models", NeurIPS 2020, on a subset of the
times (Nichol and Dhariwal, ICML 2021).  diffusers' scheduler of the same name draws its
noise itself, from torch's generator; here it is given, so that a bitstream decodes to the
same picture everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor

#: Returns standard normal numbers of a shape, others each time.
Draw = Callable[[Sequence[int]], Tensor]

#: The schedule of Stable Diffusion.
TIMES = 1000
BETAS = (0.00085, 0.0120)


def schedule(start: float = BETAS[0], end: float = BETAS[1], times: int = TIMES) -> Tensor:
    """Return for each time how much of the variance is signal, ``(times,)`` in float64."""
    scheduler = DDPMScheduler(
        num_train_timesteps=times, beta_start=start, beta_end=end, beta_schedule="scaled_linear"
    )
    return (1 - scheduler.betas.double()).cumprod(0)


def spaced_times(used: int, count: int) -> list[int]:
    """Return *count* times, ascending, evenly spaced from 0 to *used* - 1."""
    if not 1 <= count <= used:
        raise ValueError(f"{count} steps do not fit into {used} times")
    step = (used - 1) / (count - 1) if count > 1 else 1.0
    times, position = [], 0.0
    for _ in range(count):
        times.append(round(position))
        position += step
    return times


def noised(x: Tensor, noise: Tensor, signal: float) -> Tensor:
    """Return *x* with so much noise that *signal* of the variance is its own."""
    return math.sqrt(signal) * x + math.sqrt(1 - signal) * noise


def denoised(x: Tensor, eps: Tensor, signal: float) -> Tensor:
    """Undo :func:`noised`, given the noise."""
    return math.sqrt(1 / signal) * x - math.sqrt(1 / signal - 1) * eps


def sample(
    predict: Callable[[Tensor, int], Tensor],
    x: Tensor,
    times: Sequence[int],
    signals: Tensor,
    draw: Draw,
) -> Tensor:
    """Return the latents that the sampler ends with.

    Args:
        predict: latents and time to the noise in them.
        x: the noisy latents to begin with, in float32.
        times: ascending.
        signals: of :func:`schedule`.
        draw: noise for each step but the last, in the shape of *x*.
    """
    before = [1.0, *(float(signals[t]) for t in times[:-1])]
    for t, previous in zip(reversed(times), reversed(before), strict=True):
        signal = float(signals[t])
        x0 = denoised(x, predict(x, t), signal)
        if t == times[0]:
            return x0
        beta = 1 - signal / previous
        x = (
            math.sqrt(previous) * beta / (1 - signal) * x0
            + math.sqrt(1 - beta) * (1 - previous) / (1 - signal) * x
            + math.sqrt(beta * (1 - previous) / (1 - signal)) * draw(x.shape).to(x.device)
        )
    raise ValueError("no times")


def picture_noise(seed: int) -> Draw:
    """Return the source of a picture's noise; see the container for the rule of *seed*.

    It is NumPy's generator, on the CPU, whose normal numbers are the same on any machine.
    """
    generator = np.random.Generator(np.random.PCG64(seed))

    def draw(shape: Sequence[int]) -> Tensor:
        return torch.from_numpy(generator.standard_normal(tuple(shape)).astype(np.float32))

    return draw
