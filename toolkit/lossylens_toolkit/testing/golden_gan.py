"""The golden cases of HiFiC and MS-ILLM: what the official implementations compute.

Their weights have rules of their own: those of :mod:`.golden_weights` alone make their latents
round to zero, for the gain and the shift of a channel norm have four
dimensions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
import torch
from lossylens.testing.pictures import picture
from torch import Tensor

from lossylens_toolkit.testing.golden_weights import weights

#: For each codec: pattern of a name; what is done with the number v that the name gives;
#: factor k; constant c.  ``mul`` is k v + c; ``gain`` 1 + k n and ``shift`` k n, for n = v of
#: unit variance; ``built`` the value that a new network has, + k v.
RULES: Mapping[str, tuple[tuple[str, str, float, float], ...]] = {
    "hific": (
        (r"\.gamma$", "gain", 0.1, 0.0),
        (r"\.beta$", "shift", 0.1, 0.0),
        (r"^Encoder\.conv_block_out\.1\.weight$", "mul", 4.0, 0.0),
        (r"^Generator\.conv_block_out\.1\.weight$", "mul", 0.25, 0.0),
        (r"^Generator\.conv_block_out\.1\.bias$", "mul", 1.0, 0.5),
        (r"^Hyperprior\.analysis_net\.conv3\.weight$", "mul", 4.0, 0.0),
        (r"^Hyperprior\.synthesis_std\.conv3\.bias$", "mul", 1.0, 2.0),
        (r"^Hyperprior\.hyperlatent_likelihood\.H_\d$", "built", 0.1, 0.0),
    ),
    "msillm": (
        (r"\.gamma$", "gain", 0.1, 0.0),
        (r"\.beta$", "shift", 0.1, 0.0),
        (r"^encoder\.blocks\.5\.weight$", "mul", 4.0, 0.0),
        (r"^decoder\.blocks\.4\.weight$", "mul", 0.25, 0.0),
        (r"^decoder\.blocks\.4\.bias$", "mul", 1.0, 0.5),
        (r"^hyper_analysis\.4\.weight$", "mul", 4.0, 0.0),
        (r"^hyper_synthesis_scale\.4\.bias$", "mul", 1.0, 2.0),
        (r"^hyper_bottleneck\.matrices\.\d$", "built", 0.1, 0.0),
        (r"^hyper_bottleneck\.quantiles$", "built", 0.5, 0.0),
    ),
}


def gan_filled(
    codec: str, shapes: Mapping[str, Any], seed: int, built: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the parameters of a golden case, by official name.

    Args:
        codec: ``hific`` or ``msillm``.
        shapes: of all parameters, by official name.
        seed: of the case.
        built: parameters of a new network, by official name.
    """
    return {name: _value(codec, name, tuple(shape), seed, built) for name, shape in shapes.items()}


def _value(
    codec: str, name: str, shape: tuple[int, ...], seed: int, built: Mapping[str, Tensor]
) -> Tensor:
    value = weights(name, shape, seed)
    spread = 1 / math.sqrt(math.prod(shape[1:])) if len(shape) >= 2 else 0.02
    for pattern, mode, factor, constant in RULES[codec]:
        if re.search(pattern, name):
            if mode == "mul":
                return factor * value + constant
            if mode == "built":
                return built[name] + factor * value
            return (1.0 if mode == "gain" else 0.0) + factor * value / spread
    return value


def check_gan_case(
    codec: str, module: ModuleType, shapes: Mapping[str, Any], case: Mapping[str, Any]
) -> None:
    """Assert that a network computes, codes and decodes what *case* says.

    Args:
        codec: ``hific`` or ``msillm``.
        module: the plugin's, with ``build``.
        shapes: of all parameters, by official name.
        case: of the golden file.
    """
    network = module.build(**case.get("args", {}))
    built = module.official_state_dict(network)
    module.load_official(network, gan_filled(codec, shapes, case["seed"], built))
    x = _picture(case)
    height, width = case["height"], case["width"]
    with torch.inference_mode():
        out = network(x)
        likelihoods = network.estimate(x)
        coded = network.compress(x)
        decoded = network.decompress(coded["strings"], coded["shape"])
    assert list(out["y_hat"].shape) == case["y_shape"]
    _assert_close(out["x_hat"][..., ::8, ::8], case["x_hat_sub"])
    _assert_close(out["y_hat"][0, ::44, ::2, ::2], case["y_hat_[0,::44,::2,::2]"])
    for name in ("y", "z"):
        assert torch.equal(likelihoods[name], out["likelihoods"][name])
        bits = -out["likelihoods"][name].double().log2().sum().item()
        assert abs(bits / case[f"bits_{name}"] - 1) < 1e-5
    assert decoded["checksums"] == coded["checksums"]
    # Beside forward's picture, the whole padded one is decoded.
    assert torch.equal(decoded["x_hat"][..., :height, :width], out["x_hat"].clamp(0, 1))
    for name, (string,) in zip(("y", "z"), coded["strings"], strict=True):
        assert abs(8 * len(string) / case[f"bits_{name}"] - 1) < 0.02


def _picture(case: Mapping[str, Any]) -> Tensor:
    pixels = np.array(picture(case["height"], case["width"], case["seed"]))
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


def _assert_close(found: Tensor, expected: list[float]) -> None:
    values = torch.tensor(expected)
    scale = values.abs().max()
    assert (found.flatten() - values).abs().max() < 1e-4 * scale
