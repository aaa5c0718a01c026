"""MLIC++ as a codec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lossylens.codec import Level
from lossylens_toolkit.neural_codec.learned_codec import NeuralCodec
from lossylens_toolkit.neural_codec.padding import Padding
from torch import Tensor, nn

from lossylens_codec_mlicpp import network
from lossylens_codec_mlicpp.plugin import LEVELS, stems


class MlicppCodec(NeuralCodec):
    """MLIC++ at the rate of one checkpoint; zeros at the right and the bottom as publicly coded."""

    name = "mlicpp"
    package = __package__
    levels = LEVELS
    padding = Padding(64)

    def build(self, config: Mapping[str, Any]) -> network.Mlicpp:
        """See the base."""
        return network.build(**config)

    def official_config(self, state: Mapping[str, Tensor]) -> Mapping[str, Any]:
        """See the base: the networks of 2023 and 2024 differ in the first block of ``g_s``."""
        old = "g_s.synthesis_transform.0.skip.weight" in state
        return {"release": "2023" if old else "2024"}

    def load_official(self, network_: nn.Module, state: Mapping[str, Tensor]) -> None:
        """See the base."""
        network.load_official(network_, state)

    def stems(self, level: Level) -> Sequence[str]:
        """See the base."""
        return stems(level)
