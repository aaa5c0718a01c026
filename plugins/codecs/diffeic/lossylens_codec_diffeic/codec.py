"""DiffEIC as a codec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lossylens.codec import Level
from lossylens_toolkit.latent_diffusion.controlled_codec import ControlledCodec
from lossylens_toolkit.latent_diffusion.sampling import Draw
from torch import Tensor

from lossylens_codec_diffeic import network
from lossylens_codec_diffeic.lfgcm import Lfgcm
from lossylens_codec_diffeic.plugin import LEVELS, DiffeicOptions, published


class DiffeicCodec(ControlledCodec):
    """DiffEIC at the rate of one checkpoint."""

    name = "diffeic"
    package = __package__
    levels = LEVELS
    control_params = network.CONTROL

    options: DiffeicOptions

    def build(self, config: Mapping[str, Any]) -> Lfgcm:
        """See the base."""
        return network.build(**config)

    def published(self, level: Level) -> Sequence[str]:
        """See the base."""
        return [published(level).name]

    def inputs(self, x: Tensor) -> Sequence[Tensor]:
        """See the base."""
        return network.inputs(self.vae_for(*x.shape[-2:]), x)

    def latent(self, coded: Mapping[str, Tensor], draw: Draw) -> Tensor:
        """See the base."""
        diffusion = self.diffusion(*coded["c_latent"].shape[-2:])
        return network.sampled(diffusion, coded, draw, self.options.steps)
