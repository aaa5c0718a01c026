"""ELIC as a codec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lossylens.codec import Level
from lossylens_toolkit.neural_codec.learned_codec import NeuralCodec
from lossylens_toolkit.neural_codec.padding import Padding
from torch import Tensor, nn

from lossylens_codec_elic import network
from lossylens_codec_elic.plugin import LEVELS, stems


class ElicCodec(NeuralCodec):
    """ELIC at the rate of one checkpoint; zeros at the right and the bottom as publicly coded."""

    name = "elic"
    package = __package__
    levels = LEVELS
    padding = Padding(64)

    def build(self, config: Mapping[str, Any]) -> network.Elic:
        """See the base."""
        return network.build(**config)

    def official_config(self, state: Mapping[str, Tensor]) -> Mapping[str, Any]:
        """See the base: there is one size."""
        return {}

    def load_official(self, network_: nn.Module, state: Mapping[str, Tensor]) -> None:
        """See the base."""
        network.load_official(network_, state)

    def official_state(self, network_: nn.Module) -> Mapping[str, Tensor]:
        """See the base."""
        return network.official_state_dict(network_)

    def stems(self, level: Level) -> Sequence[str]:
        """See the base."""
        return stems(level)
