"""RDEIC as a codec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lossylens.codec import Level
from lossylens_toolkit.latent_diffusion.controlled_codec import ControlledCodec
from lossylens_toolkit.latent_diffusion.sampling import Draw
from lossylens_toolkit.neural_codec.container import Content
from torch import Tensor

from lossylens_codec_rdeic import network
from lossylens_codec_rdeic.compression import Compression
from lossylens_codec_rdeic.plugin import LEVELS, RdeicOptions, published


class RdeicCodec(ControlledCodec):
    """RDEIC at the rate of one checkpoint."""

    name = "rdeic"
    package = __package__
    levels = LEVELS
    control_params = network.CONTROL

    options: RdeicOptions

    def build(self, config: Mapping[str, Any]) -> Compression:
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
        height, width = coded["c_latent"].shape[-2:]
        diffusion = self.diffusion(height, width, self.options.guidance)
        return network.sampled(diffusion, coded, draw, int(self.level.parameters["steps"]))

    def official_z_bytes(self, content: Content) -> int:
        """See the base: two bits end the indexes."""
        network_ = self.network
        assert isinstance(network_, Compression)
        width, height = self.padding.padded(content.width, content.height)
        count = width * height // network_.hyper_stride**2
        return -(-(count * network_.quantize.bits + 2) // 8)
