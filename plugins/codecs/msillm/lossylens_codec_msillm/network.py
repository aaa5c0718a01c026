"""The MS-ILLM network of the published checkpoints.

Muckley et al., "Improving Statistical Fidelity for Neural Image Compression with
Implicit Local Likelihood Models", ICML 2023, arXiv:2301.11189.  It is HiFiC's
autoencoder with zeros at the borders and CompressAI's priors; one network for all rates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lossylens_toolkit.neural_codec.checkpoints import load_parameters, parameters
from lossylens_toolkit.neural_codec.compressai import EntropyBottleneck, GaussianConditional
from lossylens_toolkit.neural_codec.high_fidelity import (
    AnalysisTransform,
    HighFidelityNetwork,
    Synthesis,
    Widths,
    hyper_analysis,
    hyper_synthesis,
)
from lossylens_toolkit.neural_codec.padding import Padding
from torch import Tensor, nn

#: Reflection at the right and the bottom; zeros instead, on both, where a side is too
#: short for it, as the benchmark of the paper does with pictures of 32 pixels and less.
PADDING = Padding(64, mode="reflect-or-zeros")

#: Official names and ours, by their beginnings.
_NAMES = {
    "encoder": "g_a",
    "decoder": "g_s",
    "hyper_analysis": "h_a",
    "hyper_synthesis_mean": "h_mean",
    "hyper_synthesis_scale": "h_scale",
    "hyper_bottleneck": "entropy_bottleneck",
    "latent_bottleneck": "gaussian_conditional",
}
_OFFICIAL = {own: official for official, own in _NAMES.items()}


def _convolution(inputs: int, outputs: int, size: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2)


class Msillm(HighFidelityNetwork):
    """MS-ILLM.

    Args:
        widths: of the layers.
    """

    padding = PADDING

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        self.latent_channels = widths.latents
        self.g_a = AnalysisTransform(widths, _convolution)
        self.g_s = Synthesis(widths, _convolution)
        self.h_a = hyper_analysis(widths, _convolution)
        self.h_mean, self.h_scale = (
            hyper_synthesis(widths, _convolution(widths.hyper, widths.latents, 3, 1))
            for _ in range(2)
        )
        self.entropy_bottleneck = EntropyBottleneck(widths.hyper)
        self.gaussian_conditional = GaussianConditional(None)


def build(
    in_channels: int = 3,
    latent_features: int = 220,
    hyper_features: int = 320,
    num_residual_blocks: int = 9,
    filters: Sequence[int] = (60, 120, 240, 480, 960),
) -> Msillm:
    """Return an untrained network; by default that of all published checkpoints.

    The names are those of the official arguments, but for *filters*.

    Args:
        in_channels: 3.
        latent_features: channels of y.
        hyper_features: channels of z.
        num_residual_blocks: of the decoder.
        filters: channels at strides 1, 2, 4, 8 and 16.

    Raises:
        ValueError: arguments that make no network.
    """
    if in_channels != 3:
        raise ValueError(f"pictures have 3 channels, not {in_channels}")
    widths = Widths(filters, latent_features, hyper_features, num_residual_blocks)
    return Msillm(widths).eval()


def load_official(
    network: nn.Module, state_dict: Mapping[str, Tensor], strict: bool = True
) -> None:
    """Load parameters in official names, old or new; see :func:`.load_parameters`."""
    load_parameters(
        network,
        state_dict,
        strict,
        rename=lambda name: _replaced(name, _NAMES),
        official=lambda name: _replaced(name, _OFFICIAL),
    )


def official_state_dict(network: nn.Module) -> dict[str, Tensor]:
    """Return the parameters of *network* in official names."""
    return {_replaced(name, _OFFICIAL): value for name, value in parameters(network).items()}


def _replaced(name: str, names: Mapping[str, str]) -> str:
    first, dot, rest = name.partition(".")
    # What begins with one of our names, but not an official one, must not pass for it.
    return names.get(first, f"?{first}") + dot + rest
