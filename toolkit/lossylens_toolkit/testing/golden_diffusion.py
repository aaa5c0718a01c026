"""Golden cases of codecs on latent diffusion: what official implementations compute.

Weights follow from official names; a few are multiplied, so that values stay in a useful
range.  Tensors are stored as every so manieth value, with mean and standard deviation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from lossylens.testing.pictures import picture
from torch import Tensor

from lossylens_toolkit.neural_codec import coding
from lossylens_toolkit.neural_codec.probability_tables import SCALES
from lossylens_toolkit.testing.golden_networks import read_golden
from lossylens_toolkit.testing.golden_weights import weights

#: Difference to the golden values at most, relative to the largest of them.
TOLERANCE = 1e-4
#: Of bits, relative.
BITS_TOLERANCE = 1e-5


class GoldenCase(NamedTuple):
    """Configuration and shapes, and what comes out."""

    given: Any
    expected: Any


def golden_case(folder: Path, name: str) -> GoldenCase:
    """Return what ``NAME.json.gz`` and ``NAME.expected.json.gz`` hold."""
    return GoldenCase(*(read_golden(folder / f"{name}{end}.json.gz") for end in ("", ".expected")))


def golden_state(
    shapes: Mapping[str, Sequence[int]],
    seed: int,
    fill: Mapping[str, Any],
    built: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Return the parameters of a case by official name.

    Args:
        shapes: of all parameters.
        seed: of the case.
        fill: which keep the value that a new network has, and which are multiplied.
        built: the values of a new network, by official name.
    """
    factors = [(re.escape(name), factor) for name, factor in fill.get("then_multiply", {}).items()]
    factors += fill.get("then_multiply_fullmatch", {}).items()
    state = {}
    for name, shape in shapes.items():
        kept = any(re.search(pattern, name) for pattern in fill["keep"])
        value = built[name].clone() if kept else weights(name, shape, seed)
        for pattern, factor in factors:
            if re.fullmatch(pattern, name):
                value = value * factor
        state[name] = value
    return state


def golden_picture(expected: Mapping[str, Any]) -> Tensor:
    """Return the picture of a case, ``(1, 3, H, W)`` in 0..1."""
    height, width = expected["input_size"]
    pixels = np.array(picture(height, width, expected["seed"]))
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


class GoldenNoise:
    """The random numbers of a case, in the order in which they are drawn."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.Generator(np.random.PCG64(seed))

    def __call__(self, shape: Iterable[int]) -> Tensor:
        """Return the next numbers."""
        numbers = self._generator.standard_normal(tuple(shape))
        return torch.from_numpy(numbers.astype(np.float32))


def assert_close(found: Tensor, expected: Mapping[str, Any]) -> None:
    """Assert that a tensor is what is stored of it."""
    values = torch.tensor(expected["values"])
    if "shape" in expected:
        assert list(found.shape) == expected["shape"]
    sample = found.detach().float().flatten()[:: expected["stride"]][: len(values)]
    error = (sample - values).abs().max() / values.abs().max()
    assert error < TOLERANCE
    assert abs(found.double().mean() - expected["mean"]) < TOLERANCE * expected["std"]
    assert abs(found.double().std() / expected["std"] - 1) < TOLERANCE


def assert_bits(likelihoods: Tensor, expected: float) -> None:
    """Assert that latents cost so many bits."""
    assert abs(-likelihoods.double().log2().sum() / expected - 1) < BITS_TOLERANCE


def check_golden_strings(network: Any, inputs: Sequence[Tensor], expected: Sequence[int]) -> Any:
    """Assert that strings decode, and are as long as the official ones.

    With scales rounded up, as the official code does, to within eight bytes; as they are
    rounded here, within one percent.  Return what they decode to.
    """
    coded = network.compress(*inputs)
    decoded = network.decompress(coded["strings"], coded["shape"])
    assert decoded["checksums"] == coded["checksums"]
    with mock.patch.object(coding, "_BOUNDS", SCALES[:-1]):
        official = network.compress(*inputs)
    found = zip(coded["strings"], official["strings"], expected, strict=True)
    for (own,), (rounded_up,), length in found:
        assert abs(len(rounded_up) - length) <= 8
        assert abs(len(own) - length) <= max(8, 0.01 * length)
    return decoded
