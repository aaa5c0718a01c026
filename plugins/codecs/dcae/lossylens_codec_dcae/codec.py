"""DCAE as a codec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lossylens_toolkit.neural_codec.learned_codec import NeuralCodec
from lossylens_toolkit.neural_codec.padding import Padding
from torch import Tensor, nn

from lossylens_codec_dcae import network
from lossylens_codec_dcae.plugin import LEVELS


class DcaeCodec(NeuralCodec):
    """DCAE at the rate of one checkpoint; zeros around the picture as publicly coded.

    Sides of 128, with which the public code fails, are taken as they are.
    """

    name = "dcae"
    package = __package__
    levels = LEVELS
    padding = Padding(128, centred=True)

    def build(self, config: Mapping[str, Any]) -> network.Dcae:
        """See the base."""
        return network.build(**config)

    def official_config(self, state: Mapping[str, Tensor]) -> Mapping[str, Any]:
        """See the base: there is one size."""
        return {}

    def load_official(self, network_: nn.Module, state: Mapping[str, Tensor]) -> None:
        """See the base."""
        network.load_official(network_, state)
