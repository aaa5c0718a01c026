"""Golden cases of learned codecs' networks: what official implementations compute.

A case has deterministic weights (:mod:`lossylens_toolkit.testing.golden_weights`), a test picture
(:func:`lossylens.testing.pictures.picture`) and the outcome.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import torch
from lossylens.testing.pictures import picture
from torch import Tensor
from torch.nn import functional

from lossylens_toolkit.neural_codec import coding
from lossylens_toolkit.neural_codec.probability_tables import SCALES
from lossylens_toolkit.testing.golden_weights import filled


def read_golden(path: Path) -> Any:
    """Return the content of a gzipped JSON file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return json.load(file)


def golden_network(module: ModuleType, golden: Any, case: Any) -> torch.nn.Module:
    """Return the network of *case*, built and loaded by a plugin's ``network`` module."""
    network = module.build(**case["config"])
    fill = golden["fill"]
    scale = dict(fill.get("then_scale", ()))
    parameters = module.official_state_dict(network)
    state = filled(parameters, case["fill_seed"], fill["keep"], scale)
    module.load_official(network, state)
    return network


def golden_input(case: Any) -> Tensor:
    """Return the padded picture of *case*, ``(1, 3, H, W)`` in 0..1."""
    pixels = np.asarray(picture(**case["input"]["picture"]))
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == case["input"]["sha256_of_uint8_hwc"]
    x = torch.from_numpy(pixels.astype(np.float32) / np.float32(255)).permute(2, 0, 1)[None]
    padding = case["input"]["zero_padding"]
    return functional.pad(x, [padding[side] for side in ("left", "right", "top", "bottom")])


def check_forward(network: torch.nn.Module, case: Any) -> Tensor:
    """Assert that the network computes what *case* says; return its ``x_hat``."""
    with torch.inference_mode():
        found = network(golden_input(case))
    expected, given = case["forward"], case["input"]
    top, left = given["zero_padding"]["top"], given["zero_padding"]["left"]
    height, width = given["picture"]["height"], given["picture"]["width"]
    x_hat = found["x_hat"][..., top : top + height, left : left + width]
    sample = torch.tensor(expected["x_hat_sample"]["values_row_major"])
    assert (x_hat[:, :, ::8, ::8].flatten() - sample).abs().max() < 1e-3
    for name in ("y", "z"):
        bits = -found["likelihoods"][name].double().log2().sum()
        assert abs(bits / expected[f"bits_{name}"] - 1) < 1e-5
    if blocks := expected.get("bits_y_by_channel_block_of_16"):
        bits = -found["likelihoods"]["y"].double().log2().sum((0, 2, 3))
        assert torch.allclose(bits.reshape(-1, 16).sum(1), torch.tensor(blocks).double(), rtol=1e-4)
    return found["x_hat"]


def check_strings(network: torch.nn.Module, case: Any, x_hat: Tensor, nearly: float = 0.01) -> None:
    """Assert that strings decode to *x_hat*.

    With scales rounded up, as the official code does, they are as long as *case* says; as
    they are rounded here, but for the share *nearly*.
    """
    coded = network.compress(golden_input(case))  # type: ignore[operator]
    decoded = network.decompress(coded["strings"], coded["shape"])  # type: ignore[operator]
    assert decoded["checksums"] == coded["checksums"]
    assert torch.equal(decoded["x_hat"], x_hat.clamp(0, 1))
    with mock.patch.object(coding, "_BOUNDS", SCALES[:-1]):
        official = network.compress(golden_input(case))  # type: ignore[operator]
    found = zip(("y", "z"), coded["strings"], official["strings"], strict=True)
    for name, own, rounded_up in found:
        expected = case["stream"][f"{name}_bytes"]
        # Where the official code writes several strings, each has a state of its own.
        spare = 8 * len(case["stream"][f"{name}_string_lengths"])
        assert expected - spare <= sum(map(len, rounded_up)) <= expected + 8
        assert abs(sum(map(len, own)) / expected - 1) < nearly
