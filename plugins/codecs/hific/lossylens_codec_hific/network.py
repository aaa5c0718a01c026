"""The HiFiC network of the published PyTorch checkpoints.

Mentzer et al., "High-Fidelity Generative Image Compression", NeurIPS 2020,
arXiv:2006.09965, in the re-implementation by J. Tan.  Padding is by reflection, of the
encoder's strided layers at the top and the right alone; not the picture but y is padded
to the stride of the hyperprior.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from lossylens_toolkit.neural_codec.checkpoints import load_parameters, parameters
from lossylens_toolkit.neural_codec.high_fidelity import (
    AnalysisTransform,
    HighFidelityNetwork,
    ReflectedConv2d,
    Synthesis,
    Widths,
    hyper_analysis,
    hyper_synthesis,
)
from lossylens_toolkit.neural_codec.padding import Padding
from lossylens_toolkit.neural_codec.probability_tables import Tables
from torch import Tensor, nn
from torch.nn import functional

from lossylens_codec_hific.priors import GAUSSIAN, ConditionalPrior, FactorisedPrior

#: Reflection at the right and the bottom.  From 65 pixels on it is the official one;
#: shorter sides, at which the official code fails, are reflected to and fro up to 80.
PADDING = Padding(16, minimum=80, mode="reflect")

#: Multiple of the sides of y.
_HYPER = 4

#: What checkpoints hold beside the network: the discriminator of the training, and tables.
_IGNORED = (
    "Discriminator.",
    "Hyperprior.hyperprior_entropy_model.",
    "Hyperprior.prior_entropy_model.",
)

#: Places in a residual block.
_PLACES = {"conv1": 0, "norm1": 1, "conv2": 3, "norm2": 4}

#: Official names and ours, as patterns of the former and replacements.
_RENAMES = (
    (r"Encoder\.conv_block(\d)\.1\.", lambda m: f"g_a.blocks.{int(m[1]) - 1}.0."),
    (r"Encoder\.conv_block(\d)\.2\.", lambda m: f"g_a.blocks.{int(m[1]) - 1}.1."),
    (r"Encoder\.conv_block_out\.1\.", lambda m: "g_a.blocks.5."),
    (r"Generator\.conv_block_init\.0\.", lambda m: "g_s.block_0.0."),
    (r"Generator\.conv_block_init\.2\.", lambda m: "g_s.block_0.1."),
    (r"Generator\.conv_block_init\.3\.", lambda m: "g_s.block_0.2."),
    (
        r"Generator\.resblock_(\d+)\.(conv|norm)([12])\.",
        lambda m: f"g_s.resid_blocks.{m[1]}.sequence.{_PLACES[m[2] + m[3]]}.",
    ),
    (r"Generator\.upconv_block(\d)\.(\d)\.", lambda m: f"g_s.blocks.{int(m[1]) - 1}.{m[2]}."),
    (r"Generator\.conv_block_out\.1\.", lambda m: "g_s.blocks.4."),
    (r"Hyperprior\.analysis_net\.conv(\d)\.", lambda m: f"h_a.{2 * int(m[1]) - 2}."),
    (r"Hyperprior\.synthesis_mu\.conv(\d)\.", lambda m: f"h_mean.{2 * int(m[1]) - 2}."),
    (r"Hyperprior\.synthesis_std\.conv(\d)\.", lambda m: f"h_scale.{2 * int(m[1]) - 2}."),
    (r"Hyperprior\.hyperlatent_likelihood\.", lambda m: "hyper_prior."),
)


class _Transposed(nn.ConvTranspose2d):
    """A transposed convolution of stride 1, computed as the convolution that it is."""

    def forward(self, x: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """Return the convolution."""
        kernel = self.weight.flip(2, 3).transpose(0, 1)
        return functional.conv2d(x, kernel, self.bias, padding=1)


def _convolution(inputs: int, outputs: int, size: int, stride: int) -> nn.Conv2d:
    sides = (0, 1, 1, 0) if stride == 2 and size == 3 else None
    return ReflectedConv2d(inputs, outputs, size, stride, sides)


class Hific(HighFidelityNetwork):
    """HiFiC.

    Args:
        widths: of the layers.
        symmetric: whether pictures are taken to -1..1, and from a hyperbolic tangent.
        likelihood_type: of y, ``gaussian`` or ``logistic``.
    """

    padding = PADDING

    def __init__(self, widths: Widths, symmetric: bool, likelihood_type: str) -> None:
        super().__init__()
        self.latent_channels = widths.latents
        self.g_a = AnalysisTransform(widths, _convolution, symmetric, _HYPER)
        self.g_s = Synthesis(widths, _convolution, symmetric)
        self.h_a = hyper_analysis(widths, _convolution)
        self.h_mean, self.h_scale = (
            hyper_synthesis(widths, _Transposed(widths.hyper, widths.latents, 3, padding=1))
            for _ in range(2)
        )
        self.hyper_prior = FactorisedPrior(widths.hyper)
        self.prior = ConditionalPrior(likelihood_type)

    @property
    def bottleneck(self) -> FactorisedPrior:
        """See the base."""
        return self.hyper_prior

    @property
    def gaussian(self) -> ConditionalPrior:
        """See the base; it may be logistic."""
        return self.prior

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """See the base; in evaluation ``x_hat`` is clamped, as in the official code."""
        out = super().forward(x)
        return out if self.training else {**out, "x_hat": out["x_hat"].clamp(0, 1)}

    def bottleneck_tables(self) -> Tables:
        """See the base."""
        return self.hyper_prior.tables()

    @property
    def scale_tables(self) -> Tables:
        """See the base."""
        return self.prior.tables()

    def aux_loss(self) -> Tensor:
        """Return zero: this prior has no quantiles to learn."""
        return self.hyper_prior.H_0.new_zeros(())


def build(
    n_residual_blocks: int = 9,
    normalize_input_image: bool = True,
    likelihood_type: str = GAUSSIAN,
    latent_channels: int = 220,
    hyperlatent_filters: int = 320,
    filters: Sequence[int] = (60, 120, 240, 480, 960),
    use_channel_norm: bool = True,
    sample_noise: bool = False,
) -> Hific:
    """Return an untrained network; by default that of ``low`` and ``hi``.

    The names are those of the official arguments, but for *filters*.

    Args:
        n_residual_blocks: of the generator.
        normalize_input_image: whether pictures are taken to -1..1 first.
        likelihood_type: of y, ``gaussian`` or ``logistic``.
        latent_channels: of y.
        hyperlatent_filters: channels of z.
        filters: channels at strides 1, 2, 4, 8 and 16.
        use_channel_norm: True; other norms are in no published checkpoint.
        sample_noise: False; a generator with noise is in no published checkpoint.

    Raises:
        ValueError: arguments that make no network.
    """
    if not use_channel_norm or sample_noise:
        raise ValueError("only use_channel_norm=True with sample_noise=False is known")
    widths = Widths(filters, latent_channels, hyperlatent_filters, n_residual_blocks)
    return Hific(widths, normalize_input_image, likelihood_type).eval()


def load_official(
    network: nn.Module, state_dict: Mapping[str, Tensor], strict: bool = True
) -> None:
    """Load parameters in official names; see :func:`.load_parameters`.

    The discriminator and the coding tables are ignored.
    """
    state = {name: each for name, each in state_dict.items() if not name.startswith(_IGNORED)}
    load_parameters(network, state, strict, rename=_rename, official=_official)


def official_state_dict(network: nn.Module) -> dict[str, Tensor]:
    """Return the parameters of *network* in official names."""
    return {_official(name): value for name, value in parameters(network).items()}


def residual_blocks(names: Sequence[str]) -> int:
    """Return the number of residual blocks that official *names* have."""
    found = (re.search(r"^Generator\.resblock_(\d+)\.", name) for name in names)
    return len({match[1] for match in found if match})


def _rename(name: str) -> str:
    for pattern, replacement in _RENAMES:
        renamed, count = re.subn(f"^{pattern}", replacement, name)
        if count:
            return renamed
    # What has one of our names, but not an official one, must not pass for it.
    return f"?{name}"


def _official(name: str) -> str:
    first, _, rest = name.partition(".")
    if first == "hyper_prior":
        return f"Hyperprior.hyperlatent_likelihood.{rest}"
    if first in ("h_a", "h_mean", "h_scale"):
        index, _, last = rest.partition(".")
        net = {"h_a": "analysis_net", "h_mean": "synthesis_mu", "h_scale": "synthesis_std"}[first]
        return f"Hyperprior.{net}.conv{int(index) // 2 + 1}.{last}"
    parts = rest.split(".")
    return _official_analysis(parts) if first == "g_a" else _official_synthesis(parts)


def _official_analysis(parts: list[str]) -> str:
    block, *rest = parts[1:]
    if block == "5":
        return f"Encoder.conv_block_out.1.{rest[0]}"
    return f"Encoder.conv_block{int(block) + 1}.{int(rest[0]) + 1}.{rest[1]}"


def _official_synthesis(parts: list[str]) -> str:
    group, *rest = parts
    if group == "block_0":
        return f"Generator.conv_block_init.{ {'0': 0, '1': 2, '2': 3}[rest[0]] }.{rest[1]}"
    if group == "resid_blocks":
        place = {str(value): key for key, value in _PLACES.items()}[rest[2]]
        return f"Generator.resblock_{rest[0]}.{place}.{rest[3]}"
    if rest[0] == "4":
        return f"Generator.conv_block_out.1.{rest[1]}"
    return f"Generator.upconv_block{int(rest[0]) + 1}.{rest[1]}.{rest[2]}"
