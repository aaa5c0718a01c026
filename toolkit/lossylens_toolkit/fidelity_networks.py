"""Fidelity metrics that need PyTorch; see :mod:`lossylens.registry.fidelity` for what they need.

Each ``make_...`` returns a function of 8-bit RGB images of one size.  It computes on the
GPU if there is one.  Images of any size are compared as they are, without resizing,
except by the Inception network.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from lossylens.errors import ImageError
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor

Metric = Callable[[Image, Image], float]

#: Smallest side that a metric is defined for.
_LEAST_MS_SSIM, _LEAST_LPIPS, _LEAST_DISTS = 161, 31, 16


def make_ms_ssim() -> Metric:
    """Return the multi-scale structural similarity (Wang et al. 2003).

    The usual five scales and an 11-tap Gaussian of deviation 1.5, mean of the channels,
    as in pytorch-msssim.

    Raises:
        ImageError: by the metric, where a side is shorter than 161 pixels.
    """
    from pytorch_msssim import ms_ssim

    device = _device()

    def metric(original: Image, decoded: Image) -> float:
        _check_size(original, _LEAST_MS_SSIM, "MS-SSIM")
        pair = [_pixels(image, device).double() for image in (original, decoded)]
        return float(ms_ssim(*pair, data_range=255))

    return metric


def make_lpips() -> Metric:
    """Return LPIPS 0.1 with AlexNet (Zhang et al. 2018); 0 for identical images.

    Raises:
        ImageError: by the metric, where a side is shorter than 31 pixels.
    """
    network = lpips_network().to(_device())

    def distance(original: Tensor, decoded: Tensor) -> Tensor:
        # It adds up what it is given.
        network.reset()
        return network(original, decoded)

    return _metric(distance, _LEAST_LPIPS, "LPIPS")


def lpips_network() -> Any:
    """Return the torchmetrics module of LPIPS 0.1 with AlexNet, for pictures in 0..1."""
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    with _weights_only():
        return LearnedPerceptualImagePatchSimilarity("alex", normalize=True)


def make_dists() -> Metric:
    """Return DISTS (Ding et al. 2020); 0 for identical images.

    Raises:
        ImageError: by the metric, where a side is shorter than 16 pixels.
    """
    # The class for users would load the weights anew for every pair.
    from torchmetrics.functional.image.dists import DISTSNetwork

    with _weights_only():
        network = DISTSNetwork().to(_device()).eval()
    return _metric(network, _LEAST_DISTS, "DISTS")


def make_inception() -> Callable[[Image], NDArray[np.float32]]:
    """Return the pooled features of the Inception network of the FID: 2048 numbers.

    Images are resized to 299x299 as the original implementation does.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    device = _device()
    with _weights_only():
        network = FrechetInceptionDistance(2048, antialias=False).inception.to(device)

    @torch.inference_mode()
    def features(image: Image) -> NDArray[np.float32]:
        found: Tensor = network(_pixels(image, device))
        return found[0].float().cpu().numpy()

    return features


def _metric(distance: Callable[[Tensor, Tensor], Tensor], least: int, name: str) -> Metric:
    """Return a metric of images from one of ``(1, 3, height, width)``, 0 to 1."""
    device = _device()

    @torch.inference_mode()
    def metric(original: Image, decoded: Image) -> float:
        _check_size(original, least, name)
        first, second = (_pixels(image, device) / 255 for image in (original, decoded))
        return float(distance(first, second))

    return metric


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _pixels(image: Image, device: torch.device) -> Tensor:
    """Return ``(1, 3, height, width)``, 0 to 255."""
    return torch.from_numpy(np.array(image)).to(device).permute(2, 0, 1)[None]


def _check_size(image: Image, least: int, name: str) -> None:
    if min(image.size) < least:
        size = f"{image.width}x{image.height}"
        raise ImageError(f"{name} needs sides of {least} pixels, the image has {size}")


@contextmanager
def _weights_only() -> Iterator[None]:
    """Keep the libraries from unpickling anything but tensors; they do not ask for it."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
